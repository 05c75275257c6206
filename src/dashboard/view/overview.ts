/** The overview: a run's state in words and its newest figures. Pure. */
import type { Overview, Problem, RunState, WorkerRow } from '../contract.ts';
import { RECENT_MS } from './problems.ts';
import type { CommittedRecord, OpenedRecord, SampledRecord } from './record.ts';

export interface OverviewFacts {
  readonly name: string;
  readonly live: boolean;
  readonly opened: OpenedRecord;
  readonly state: RunState;
  readonly rows: readonly WorkerRow[];
  readonly startedAt: number;
  readonly updatedAt: number;
  readonly nowAt: number;
  readonly step: number;
  readonly committed: CommittedRecord | null;
  readonly sampled: SampledRecord | null;
  readonly loss: number | null;
  readonly validationLoss: number | null;
  readonly tokensPerSecond: number | null;
  readonly stepMs: number | null;
  readonly goodput: number | null;
  readonly tokensSeen: number;
  readonly lastCheckpoint: { readonly step: number; readonly at: number } | null;
  readonly problems: readonly Problem[];
}

export function overviewOf(facts: OverviewFacts): Overview {
  const { opened, state, rows, step, committed, stepMs } = facts;
  const { name, live, updatedAt, loss, validationLoss, goodput, tokensSeen, lastCheckpoint, problems } =
    facts;
  const { totalSteps } = opened;
  const workers = countWorkers(rows, facts.nowAt);
  const isOver = state === 'completed' || state === 'stopped' || state === 'failed';
  const underWay = isOver || state === 'silent' ? null : underWayOf(facts.sampled, opened.slots);
  return {
    run: {
      id: opened.run,
      name,
      preset: opened.preset,
      engine: facts.sampled?.engineVersion ?? opened.engine,
      parameters: facts.sampled?.parameters ?? null,
      startedAt: facts.startedAt,
    },
    ...{ live, state, step, totalSteps, underWay, workers, loss, validationLoss },
    headline: headlineOf(state, underWay, step, totalSteps, workers),
    generation: facts.sampled?.generation ?? committed?.generation ?? 0,
    learningRate: committed?.learningRate ?? null,
    tokensPerSecond: facts.tokensPerSecond,
    ...{ stepMs, goodput, tokensSeen, lastCheckpoint, problems, updatedAt },
    leftMs: isOver || state === 'silent' || stepMs === null ? null : (totalSteps - step) * stepMs,
  };
}

function countWorkers(rows: readonly WorkerRow[], nowAt: number): Overview['workers'] {
  const count = (...states: WorkerRow['state'][]) =>
    rows.filter(({ state }) => states.includes(state)).length;
  const lost = rows.filter(({ state, endedAt }) => state === 'lost' && nowAt - (endedAt ?? 0) <= RECENT_MS);
  return {
    training: count('training'),
    joining: count('preparing', 'joining'),
    draining: count('draining'),
    lost: lost.length,
  };
}

function underWayOf(sampled: SampledRecord | null, slots: number): Overview['underWay'] {
  if (sampled === null || (sampled.phase !== 'computing' && sampled.phase !== 'reducing')) return null;
  const { phase, attempt, slotsDone, stateStep } = sampled;
  return { step: stateStep + 1, attempt, phase, slotsDone, slots };
}

const WORDS: Readonly<Record<RunState, string>> = {
  waiting: 'waiting for workers',
  training: 'training',
  closing: 'writing the last checkpoint',
  completed: 'complete',
  stopped: 'stopped',
  failed: 'failed',
  silent: 'no sign of the coordinator',
};

function headlineOf(
  state: RunState,
  underWay: Overview['underWay'],
  committed: number,
  totalSteps: number,
  { training, joining, draining, lost }: Overview['workers'],
): string {
  const current = underWay?.step ?? committed;
  const isRepeating = state === 'training' && underWay !== null && current <= committed;
  const told = isRepeating ? 'repeating' : WORDS[state];
  const counts = [
    ...(training === 0 ? [] : [`${training} ${training === 1 ? 'worker' : 'workers'}`]),
    ...(joining === 0 ? [] : [`${joining} joining`]),
    ...(draining === 0 ? [] : [`${draining} leaving`]),
    ...(lost === 0 ? [] : [`${lost} lost`]),
  ];
  const isOver = state === 'completed' || state === 'stopped' || state === 'failed';
  return [told, `step ${count(current)} of ${count(totalSteps)}`, ...(isOver ? [] : counts)].join(', ');
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}
