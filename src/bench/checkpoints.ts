/**
 * Checkpoints beside torch.save and torch.load of the same tensors (parameters and two moments), the two
 * taking turns. What training waits for is a copy in memory; the rest goes on beside it: writing with a
 * checksum per range, sync, reading back, SHA-256, and at the other end verifying and reading. PyTorch's
 * training waits for the whole of torch.save, which neither syncs nor checks.
 *
 * The way from worker to coordinator over HTTP is not in it.
 */
import { createHash } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import { assert, layoutSize, messageOf, type ParameterLayout, SECTIONS } from '../base/index.ts';
import { CheckpointStore, checkpointName, openCheckpoint } from '../checkpoint/index.ts';
import { canonicalJson, type PresetName, resolveConfig } from '../config/index.ts';
import { parameterLayout } from '../model/index.ts';
import { STATE_PIECE_BYTES } from '../protocol/index.ts';
import { takeSnapshot } from '../worker/index.ts';
import { type Summary, summarize } from './statistics.ts';
import type { TorchEnvironment } from './torch-environment.ts';
import { TorchFleet } from './torch-fleet.ts';

/** As in the training lines. */
const VOCAB_SIZE = 8000;
const peerAnswerSchema = z.object({ saveMs: z.number(), loadMs: z.number() });

/** Milliseconds. */
export interface CheckpointFigures {
  readonly preset: string;
  readonly megabytes: number;
  readonly lockstep: { readonly stall: Summary; readonly write: Summary; readonly read: Summary };
  /** The stall is all of the save. */
  readonly peer: { readonly save: Summary; readonly load: Summary } | null;
  /** The peer's time to save and load over Lockstep's to copy, write and read. */
  readonly ratio: number | null;
  readonly skipped: string | null;
}

export async function compareCheckpoints(
  preset: PresetName,
  rounds: number,
  context: { readonly torch: TorchEnvironment; readonly folder: string; note(line: string): void },
): Promise<CheckpointFigures> {
  const { torch, folder, note } = context;
  const { model, checkpoint } = resolveConfig({ flags: { preset, model: { vocabSize: VOCAB_SIZE } } });
  const layout = parameterLayout(model);
  const floats = layoutSize(layout);
  let skipped = torch.available ? null : torch.reason;
  const peer = torch.available
    ? new TorchFleet({ torch, script: 'checkpoint.py', numRanks: 1, folder, args: [folder] })
    : null;
  const vector = (scale: number) => new Float32Array(floats).map((_, index) => Math.sin(index) * scale);
  const state = { parameters: vector(0.02), firstMoment: vector(1e-4), secondMoment: vector(1e-8) };
  const ours: { stall: number; write: number; read: number }[] = [];
  const theirs: z.infer<typeof peerAnswerSchema>[] = [];
  try {
    for (let round = 1; round <= rounds; round += 1) {
      note(`checkpoint of ${preset}, round ${round} of ${rounds}`);
      ours.push(await writeAndRead(join(folder, `checkpoints-${preset}`), layout, state, checkpoint));
      if (peer === null || skipped !== null) continue;
      try {
        const sizes = layout.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
        const [answer] = await peer.ask({ sizes }, peerAnswerSchema);
        theirs.push(answer!);
      } catch (error) {
        skipped = messageOf(error);
      }
    }
  } finally {
    await peer?.close();
  }
  const lockstep = {
    stall: summarize(ours.map(({ stall }) => stall)),
    write: summarize(ours.map(({ write }) => write)),
    read: summarize(ours.map(({ read }) => read)),
  };
  const measured =
    skipped === null
      ? {
          save: summarize(theirs.map(({ saveMs }) => saveMs)),
          load: summarize(theirs.map(({ loadMs }) => loadMs)),
        }
      : null;
  const total = lockstep.stall.median + lockstep.write.median + lockstep.read.median;
  const ratio = measured === null ? null : (measured.save.median + measured.load.median) / total;
  return { preset, megabytes: (floats * 12) / 1e6, lockstep, peer: measured, ratio, skipped };
}

type State = Parameters<typeof takeSnapshot>[0];

async function writeAndRead(
  dir: string,
  layout: ParameterLayout,
  state: State,
  config: Parameters<typeof CheckpointStore.open>[1],
): Promise<{ stall: number; write: number; read: number }> {
  await mkdir(dir, { recursive: true });
  const length = layoutSize(layout);
  const startMs = performance.now();
  const snapshot = await takeSnapshot(state, { step: 1, attempt: 1, offset: 0, length });
  const copiedMs = performance.now();
  const store = await CheckpointStore.open(dir, config);
  const writer = await store.begin({ step: 1, layout });
  for (const [index, section] of SECTIONS.entries()) {
    for (const { offset, bytes } of piecesOf(snapshot.sections[index]!)) {
      await writer.write(section, offset, bytes);
    }
  }
  const fingerprint = createHash('sha256').update(canonicalJson({})).digest('hex');
  await writer.commit({
    ...{ runId: 'benchmark', commit: null, bitDeciding: {}, fingerprint, datasetSha256: '0'.repeat(64) },
    ...{ tokensSeen: 0, createdAt: new Date().toISOString(), lockstepVersion: 'benchmark' },
  });
  const writtenMs = performance.now();
  const reader = await openCheckpoint(join(dir, checkpointName(1)));
  try {
    await reader.verify();
    const target = new Float32Array(length);
    for (const [index, section] of SECTIONS.entries()) {
      for (const { offset, bytes } of piecesOf(target)) await reader.read(section, offset, bytes);
      assert(target[length - 1] === snapshot.sections[index]![length - 1], `${section} comes back as it was`);
    }
  } finally {
    await reader.close();
  }
  const readMs = performance.now();
  await rm(dir, { recursive: true });
  return { stall: copiedMs - startMs, write: writtenMs - copiedMs, read: readMs - writtenMs };
}

function* piecesOf(values: Float32Array): Generator<{ offset: number; bytes: Uint8Array }> {
  const pieceFloats = STATE_PIECE_BYTES / 4;
  for (let offset = 0; offset < values.length; offset += pieceFloats) {
    const piece = values.subarray(offset, offset + pieceFloats);
    yield { offset, bytes: new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength) };
  }
}
