/**
 * A made-up run that is right in every respect `lockstep verify` looks at, computed the naive way:
 * six steps, a checkpoint every second one. Tests spoil one thing at a time.
 */
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { layoutSize, type ParameterLayout } from '../../src/base/index.ts';
import { type CheckpointFacts, CheckpointStore } from '../../src/checkpoint/index.ts';
import { bitDecidingPart, fingerprintOf, PRESETS, type RunConfig } from '../../src/config/index.ts';
import { learningRateAt } from '../../src/coordinator/index.ts';
import type { CommittedRecord, HistoryRecord, OpenedRecord } from '../../src/history/index.ts';
import { BLOCK_FLOATS } from '../../src/kernels/index.ts';
import { FACTS, KEEP_ALL, LAYOUT, SIZE, sectionBytes, writeSections } from './checkpoint-fixtures.ts';
import { TIME } from './history-fixtures.ts';
import { digestTwin } from './kernel-twins.ts';
import { naiveLog } from './naive-history.ts';

export const STEPS = 6;
export const CHECKPOINT_STEPS = [2, 4, 6];
export const NUM_SLOTS = 4;
export const CONFIG: RunConfig = {
  ...PRESETS.tiny,
  engine: 'wasm',
  steps: STEPS,
  step: { microBatches: NUM_SLOTS, microBatchSize: 2 },
  // As a run records it at its first start.
  optimizer: { ...PRESETS.tiny.optimizer, warmupSteps: 2, decaySteps: STEPS },
};
const DATASET = 'ab'.repeat(32);
const BIT_DECIDING = bitDecidingPart(CONFIG, DATASET);

export const OPENED: OpenedRecord = {
  kind: 'opened',
  runId: 'run-1',
  fingerprint: fingerprintOf(BIT_DECIDING),
  config: CONFIG,
  datasetSha256: DATASET,
  time: TIME,
};

/** Digest of a vector in the way of the votes: a SHA-256 over its blocks' digests. */
export function naiveDigest(vector: Float32Array): string {
  const hash = createHash('sha256');
  for (let first = 0; first < vector.length; first += BLOCK_FLOATS) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(digestTwin(vector.subarray(first, first + BLOCK_FLOATS)));
    hash.update(bytes);
  }
  return hash.digest('hex').slice(0, 32);
}

function parametersAfter(step: number, size: number): Float32Array {
  return new Float32Array(sectionBytes('parameters', step, size).buffer);
}

export function weightsSha256(step: number, size = SIZE): string {
  return createHash('sha256')
    .update(sectionBytes('parameters', step, size))
    .digest('hex');
}

export function committed(step: number, size = SIZE): CommittedRecord {
  const slots = Array.from({ length: NUM_SLOTS }, (_, slot) => ({
    tokens: 10 * step + slot,
    lossSum: Math.sqrt(step) * 100 + slot / 3,
    worker: `worker-${slot % 2}`,
  }));
  let tokens = 0;
  let lossSum = 0;
  for (const slot of slots) {
    tokens += slot.tokens;
    lossSum += slot.lossSum;
  }
  return {
    kind: 'committed',
    step,
    generation: 1,
    attempt: 1,
    tokens,
    lossSum,
    learningRate: learningRateAt(step, CONFIG.optimizer, CONFIG.steps),
    gradientDigest: `a${step}`.padStart(32, '0'),
    parametersDigest: naiveDigest(parametersAfter(step - 1, size)),
    slots,
    time: TIME,
  };
}

export function checkpointed(step: number, size = SIZE): HistoryRecord {
  return { kind: 'checkpointed', step, weightsSha256: weightsSha256(step, size), time: TIME };
}

/** Real tokens of steps 1 to `step`. */
export function tokensUpTo(step: number): number {
  let tokens = 0;
  for (let earlier = 1; earlier <= step; earlier += 1) tokens += committed(earlier).tokens;
  return tokens;
}

/** `opened`, each step, `checkpointed` after every second one, `finished`: eleven lines. */
export function runRecords(size = SIZE): HistoryRecord[] {
  const records: HistoryRecord[] = [OPENED];
  for (let step = 1; step <= STEPS; step += 1) {
    records.push(committed(step, size));
    if (CHECKPOINT_STEPS.includes(step)) records.push(checkpointed(step, size));
  }
  return [...records, { kind: 'finished', step: STEPS, time: TIME }];
}

export function factsOf(step: number): CheckpointFacts {
  const { gradientDigest, parametersDigest } = committed(step);
  return {
    ...FACTS,
    runId: OPENED.runId,
    commit: { gradientDigest, parametersDigest },
    bitDeciding: { ...BIT_DECIDING },
    fingerprint: OPENED.fingerprint,
    datasetSha256: DATASET,
    tokensSeen: tokensUpTo(step),
  };
}

/** The log of these records, with right checksums whatever the records say. */
export async function writeLog(dir: string, records: readonly HistoryRecord[]): Promise<void> {
  await writeFile(join(dir, 'commits.log'), naiveLog(records));
}

export interface StoredCheckpoint {
  readonly step: number;
  readonly layout?: ParameterLayout;
  /** What the manifest says; right unless given. */
  readonly facts?: CheckpointFacts;
}

/** A whole checkpoint, every checksum right, however wrong its facts. */
export async function storeCheckpoint(
  store: CheckpointStore,
  { step, layout = LAYOUT, facts = factsOf(step) }: StoredCheckpoint,
): Promise<void> {
  const writer = await store.begin({ step, layout });
  await writeSections(writer, layoutSize(layout));
  await writer.commit(facts);
}

export async function writeCheckpoints(dir: string, checkpoints: readonly StoredCheckpoint[]): Promise<void> {
  const store = await CheckpointStore.open(join(dir, 'checkpoints'), KEEP_ALL);
  for (const checkpoint of checkpoints) await storeCheckpoint(store, checkpoint);
}
