/**
 * A replica's state on its way to and from the coordinator over HTTP, in pieces, each with its CRC.
 * state-server.ts in the coordinator's room is the other end.
 */
import { setImmediate } from 'node:timers/promises';
import { crc32c } from '@node-rs/crc32';
import { LockstepError, SECTIONS, type Section } from '../base/index.ts';
import { CRC_HEADER, STATE_PIECE_BYTES } from '../protocol/index.ts';
import { request, type TransferTarget, urlOf } from './coordinator-http.ts';
import type { UploadOrder } from './lifecycle-state.ts';
import type { SharedState } from './thread-messages.ts';

const PIECE_FLOATS = STATE_PIECE_BYTES / 4;
/** Copied without a pause: some tens of milliseconds. */
const COPIED_FLOATS = 2 ** 22;

/** A part of the state as it was at one step; a copy, so that training may go on. */
export interface Snapshot {
  readonly order: UploadOrder;
  readonly sections: readonly Float32Array[];
}

/** Nothing may change the state meanwhile. Copied in pieces: all at once would hold heartbeats up for seconds. */
export async function takeSnapshot(state: Pick<SharedState, Section>, order: UploadOrder): Promise<Snapshot> {
  const { offset, length } = order;
  const sections: Float32Array[] = [];
  for (const section of SECTIONS) {
    const copy = new Float32Array(length);
    for (let first = 0; first < length; first += COPIED_FLOATS) {
      const end = Math.min(length, first + COPIED_FLOATS);
      copy.set(state[section].subarray(offset + first, offset + end), first);
      await setImmediate();
    }
    sections.push(copy);
  }
  return { order, sections };
}

/** Throws COORDINATOR_LOST with the coordinator's own words when it does not take a piece, or when `signal` aborts. */
export async function uploadSnapshot(
  target: TransferTarget,
  snapshot: Snapshot,
  signal: AbortSignal,
): Promise<void> {
  for (const [index, section] of SECTIONS.entries()) {
    const values = snapshot.sections[index]!;
    for (let first = 0; first < values.length; first += PIECE_FLOATS) {
      const piece = values.subarray(first, first + PIECE_FLOATS);
      const body = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
      const { step, attempt, offset } = snapshot.order;
      await requestState(target, `${step}/${section}?attempt=${attempt}&offset=${offset + first}`, {
        method: 'PUT',
        signal,
        body,
        headers: { 'content-type': 'application/octet-stream', [CRC_HEADER]: String(crc32c(body)) },
      });
    }
  }
}

/** Fills the whole state from the coordinator's checkpoint of `step`. Throws COORDINATOR_LOST, also when `signal` aborts. */
export async function downloadState(
  target: TransferTarget,
  step: number,
  state: SharedState,
  signal: AbortSignal,
): Promise<void> {
  for (const section of SECTIONS) {
    const values = state[section];
    for (let first = 0; first < values.length; first += PIECE_FLOATS) {
      const length = Math.min(PIECE_FLOATS, values.length - first);
      const path = `${step}/${section}?offset=${first}&length=${length}`;
      const response = await requestState(target, path, { method: 'GET', signal });
      const bytes = Buffer.from(await response.arrayBuffer());
      if (bytes.length !== length * 4 || response.headers.get(CRC_HEADER) !== String(crc32c(bytes))) {
        throw new LockstepError(
          'COORDINATOR_LOST',
          `state of step ${step}, ${section}: a piece arrived damaged`,
        );
      }
      values.set(new Float32Array(bytes.buffer, bytes.byteOffset, length), first);
    }
  }
}

/** Throws COORDINATOR_LOST with the coordinator's own words unless it does what is asked. */
async function requestState(target: TransferTarget, path: string, init: RequestInit): Promise<Response> {
  const within = `checkpoints/${path}`;
  const response = await request(target, within, init);
  if (response.ok) return response;
  throw new LockstepError(
    'COORDINATOR_LOST',
    `${urlOf(target, within)}: ${response.status} ${await response.text()}`,
  );
}
