/** Telemetry of a made-up run, and a view that it is folded into: for tests that need some of it. */
import type {
  CommittedRecord,
  OpenedRecord,
  SampledRecord,
  Telemetry,
} from '../../src/dashboard/view/record.ts';
import { RunView } from '../../src/dashboard/view/run-view.ts';

export const START_AT = 1_700_000_000_000;
export const STEP_MS = 1000;

export function opened(change: Partial<OpenedRecord> = {}): OpenedRecord {
  return {
    ...{ kind: 'opened', at: START_AT, run: 'r1', preset: 'tiny', engine: 'tensorflow', totalSteps: 1000 },
    ...{
      slots: 8,
      sequencesPerSlot: 4,
      sequenceLength: 48,
      decoderLayers: 2,
      objective: 'lplm',
      datasetSha256: 'ab',
    },
    ...{ dataDir: null, fromStep: 0, tokensSeen: 0 },
    ...change,
  };
}

export function committed(step: number, change: Partial<CommittedRecord> = {}): CommittedRecord {
  return {
    ...{ kind: 'committed', at: START_AT + step * STEP_MS, step, generation: 2, attempt: 1, repeated: false },
    ...{ loss: 8 / step, learningRate: 0.001, tokens: 1000, stepMs: step === 1 ? null : STEP_MS },
    workers: [
      { worker: 'worker-0', slots: 4, tokens: 600 },
      { worker: 'worker-1', slots: 4, tokens: 400 },
    ],
    ...change,
  };
}

export function sampledWorker(worker: string, change: Partial<SampledRecord['workers'][number]> = {}) {
  return {
    ...{ worker, host: 'here', pid: 1, device: 'CPU', phase: 'member', slotsDone: 0, slotsLeased: 0 },
    ...{ slotsPerSecond: 10, residentBytes: 5, engineBytes: null, sentBytes: 0, receivedBytes: 0 },
    ...change,
  };
}

export function sampled(at: number, change: Partial<SampledRecord> = {}): SampledRecord {
  return {
    ...{ kind: 'sampled', at, generation: 2, stateStep: 0, phase: 'computing', attempt: 1, slotsDone: 3 },
    ...{ parameters: 306_176, engineVersion: 'TensorFlow 2.21.0' },
    workers: [sampledWorker('worker-0'), sampledWorker('worker-1')],
    ...change,
  };
}

export function noted(
  at: number,
  event: string,
  fields: Record<string, unknown>,
  level: 'info' | 'warn' | 'error' = 'warn',
): Telemetry {
  return { kind: 'noted', at, level, event, fields };
}

export function viewOf(...records: readonly Telemetry[]): RunView {
  const view = new RunView();
  for (const record of records) view.apply(record);
  return view;
}

/** The overview as a coordinator's own dashboard would word it; the run has begun. */
export function overviewOf(view: RunView, nowAt: number) {
  const overview = view.overview({ name: 'a-run', live: true }, nowAt);
  if (overview === null) throw new Error('the view holds no run');
  return overview;
}
