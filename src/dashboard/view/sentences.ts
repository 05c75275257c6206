/** What the coordinator notes, in one sentence for a person, and the kind of history it belongs to. Pure. */
import type { LogFields } from '../../base/index.ts';
import type { HistoryKind } from '../contract.ts';

/** Null for an event that is told by other means or that only a log needs. */
export function sentenceOf(event: string, fields: LogFields): string | null {
  const { worker, step, reason } = fields;
  switch (event) {
    case 'workerEntered':
      return `${worker} entered at step ${step} on ${fields.device}`;
    case 'workerLost':
      return `${worker} was lost at step ${step}: ${reason}`;
    case 'workerRefused':
      return `a worker was refused: ${reason}`;
    case 'workerQuarantined':
      return `${worker} is quarantined: ${reason}`;
    case 'workerDraining':
      return `${worker} is leaving: it finishes what it holds`;
    case 'workerLeft':
      return `${worker} left before step ${step}: ${reason}`;
    case 'straggler':
      return `${worker} is slow: ${fields.slotsTakenBack} of its slots were given to others in step ${step}`;
    case 'stateFailed':
      return `${worker} could not get the state: ${reason}; it tries again`;
    case 'stateKept':
      return `workers came back with the state of step ${step}: going on from there`;
    case 'stepSkipped':
      return `step ${step} is skipped on all replicas: ${reason}`;
    case 'rangesReplanned':
      return `step ${step}: ${fields.ranges} ranges that nobody took up are in the queue anew`;
    case 'attemptAborted':
      return `step ${step}, attempt ${fields.attempt} aborted by ${worker}: ${reason}`;
    case 'checkpointStored':
      return `checkpoint of step ${step} stored`;
    case 'validated':
      return `validation loss of step ${step}: ${Number(fields.loss).toFixed(4)}`;
    case 'validationFailed':
      return `step ${step} could not be validated: ${reason}`;
    case 'checkpointAbandoned':
      return `checkpoint of step ${step} given up: ${reason}; the next commit tries again`;
    case 'rewound':
      return `no worker is left: going back from step ${fields.from} to the checkpoint of step ${fields.to}`;
    case 'queueTrouble':
      return `the queue: ${reason}`;
    case 'frameRefused':
      return fields.count === 1
        ? `a frame was refused: ${reason}`
        : `${fields.count} frames were refused: ${reason}`;
    case 'telemetryTrouble':
      return `metrics are not recorded any more: ${reason}`;
    default:
      return null;
  }
}

const KINDS: Readonly<Record<string, HistoryKind>> = {
  workerJoined: 'join',
  workerEntered: 'join',
  workerLost: 'loss',
  workerRefused: 'loss',
  workerQuarantined: 'divergence',
  workerDraining: 'loss',
  workerLeft: 'loss',
  stepSkipped: 'abort',
  attemptAborted: 'abort',
  resultRefused: 'stale',
  frameRefused: 'stale',
  checkpointStored: 'checkpoint',
  checkpointAbandoned: 'checkpoint',
};

export function kindOf(event: string, fields: LogFields): HistoryKind {
  if (event === 'runFailed' && fields.code === 'DIVERGED') return 'divergence';
  return KINDS[event] ?? 'run';
}

/** A sentence for any event: one that has none of its own is told by its name and fields. */
export function anySentenceOf(event: string, fields: LogFields): string {
  const own = sentenceOf(event, fields);
  if (own !== null) return own;
  switch (event) {
    case 'workerJoined':
      return `${fields.worker} joined from ${fields.host}, process ${fields.pid}`;
    case 'resultRefused':
      return `a result of ${fields.worker} was refused: it does not hold ${fields.job}`;
    case 'runFailed':
      return `the run failed: ${fields.code}: ${fields.reason}`;
    default: {
      const told = Object.entries(fields).map(([name, value]) => `${name} ${textOf(value)}`);
      return told.length === 0 ? event : `${event}: ${told.join(', ')}`;
    }
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
