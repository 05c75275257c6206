/**
 * The checkpoint of step 0 of a run that starts from given weights: their parameters, and moments of zero.
 * From there on it is a checkpoint like any other, so workers get the start the way they get any state.
 */
import { join } from 'node:path';
import { LockstepError, layoutSize, type ParameterLayout, type Section } from '../base/index.ts';
import {
  type CheckpointFacts,
  type CheckpointReader,
  type CheckpointStore,
  type CheckpointWriter,
  checkpointName,
  FLOAT_BYTES,
  openCheckpoint,
} from '../checkpoint/index.ts';

/** Floats that are copied at a time. */
const PIECE_FLOATS = 1024 * 1024;

/** Parameters that a run is to start from instead of drawing them from its seed. */
export interface StartWeights {
  /** Of the run's model. */
  readonly layout: ParameterLayout;
  /** Version of the program, for the manifest. */
  readonly version: string;
  /** Fills `target` with little-endian float32 values of the flat vector, from float `offsetFloats` on. */
  read(offsetFloats: number, target: Uint8Array): Promise<void>;
}

/**
 * Stores the checkpoint and opens it. Throws CHECKPOINT_INVALID when the parameters are not those whose
 * SHA-256 is given, DISK_FULL.
 */
export async function storeStart(
  store: CheckpointStore,
  weights: StartWeights,
  sha256: string,
  identity: Omit<CheckpointFacts, 'commit' | 'tokensSeen' | 'lockstepVersion'>,
): Promise<CheckpointReader> {
  const { layout, version } = weights;
  const writer = await store.begin({ step: 0, layout });
  try {
    await copy(writer, 'parameters', layout, (first, bytes) => weights.read(first, bytes));
    await copy(writer, 'firstMoment', layout, async () => {});
    await copy(writer, 'secondMoment', layout, async () => {});
    await writer.commit({ ...identity, commit: null, tokensSeen: 0, lockstepVersion: version });
  } catch (error) {
    await writer.abort();
    throw error;
  }
  const reader = await openCheckpoint(join(store.dir, checkpointName(0)));
  const found = reader.manifest.weightsSha256;
  if (found === sha256) return reader;
  await reader.close();
  throw new LockstepError(
    'CHECKPOINT_INVALID',
    `${reader.dir}: the weights to start from have SHA-256 ${found}, not ${sha256}: they changed while they were read; start again in another folder`,
  );
}

/** One buffer, filled and written again and again; zeros where `fill` does nothing. */
async function copy(
  writer: CheckpointWriter,
  section: Section,
  layout: ParameterLayout,
  fill: (first: number, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const size = layoutSize(layout);
  const buffer = new Uint8Array(Math.min(PIECE_FLOATS, size) * FLOAT_BYTES);
  for (let first = 0; first < size; first += PIECE_FLOATS) {
    const bytes = buffer.subarray(0, Math.min(PIECE_FLOATS, size - first) * FLOAT_BYTES);
    await fill(first, bytes);
    await writer.write(section, first, bytes);
  }
}
