/** Made-up records of a run, the way a log of `steps` steps would hold them. */
import type { CommittedRecord, HistoryRecord } from '../../src/history/index.ts';

export const TIME = '2026-11-21T12:00:00.000Z';

export const OPENED: HistoryRecord = {
  kind: 'opened',
  runId: 'run-1',
  fingerprint: 'cd'.repeat(32),
  config: { seed: 1, step: { microBatches: 4 } },
  datasetSha256: 'ab'.repeat(32),
  time: TIME,
};

export function committed(step: number, numSlots = 4): CommittedRecord {
  const slots = Array.from({ length: numSlots }, (_, slot) => ({
    tokens: 100 + slot,
    lossSum: Math.sqrt(step) * 100 + slot / 3,
    worker: `worker-${slot % 2}`,
  }));
  return {
    kind: 'committed',
    step,
    generation: 1,
    attempt: 0,
    tokens: slots.reduce((sum, { tokens }) => sum + tokens, 0),
    lossSum: slots.reduce((sum, { lossSum }) => sum + lossSum, 0),
    gradientNorm: 1 / step,
    learningRate: 1e-3,
    gradientDigest: step.toString(16).padStart(16, '0'),
    parametersDigest: (step - 1).toString(16).padStart(16, '0'),
    slots,
    time: TIME,
  };
}

export function skipped(step: number): Extract<HistoryRecord, { kind: 'skipped' }> {
  return {
    ...{ kind: 'skipped', step, generation: 1, slot: 2, worker: 'worker-1' },
    ...{ reason: 'the gradient holds a value that is not finite', time: TIME },
  };
}

export function checkpointed(step: number): HistoryRecord {
  return { kind: 'checkpointed', step, weightsSha256: 'ef'.repeat(32), time: TIME };
}

/** A run with a checkpoint every second step. */
export function recordsOf(steps: number, numSlots = 4): HistoryRecord[] {
  const records: HistoryRecord[] = [OPENED];
  for (let step = 1; step <= steps; step += 1) {
    records.push(committed(step, numSlots));
    if (step % 2 === 0) records.push(checkpointed(step));
  }
  return records;
}
