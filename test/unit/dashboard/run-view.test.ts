/** The view of a run: what its telemetry says, in words and figures, at any moment and in bounded memory. */
import { describe, expect, test } from 'vitest';
import { HISTORY_KINDS } from '../../../src/dashboard/contract.ts';
import { RunView } from '../../../src/dashboard/view/run-view.ts';
import {
  committed,
  noted,
  opened,
  overviewOf,
  START_AT,
  STEP_MS,
  sampled,
  sampledWorker,
  viewOf,
} from '../../support/telemetry-fixtures.ts';

const joined = (worker: string) => noted(START_AT, 'workerJoined', { worker, host: 'here', pid: 7 }, 'info');
const lost = (worker: string, at: number, reason = 'its connection closed') =>
  noted(at, 'workerLost', { worker, reason, phase: 'member', step: 3 });

describe('a run in words', () => {
  test('there is none before it was opened', () => {
    expect(new RunView().overview({ name: 'x', live: true }, START_AT)).toBeNull();
  });

  test('training: the step under way, the workers, and who is on the way', () => {
    const joining = sampledWorker('worker-2', { phase: 'prepared' });
    const workers = [sampledWorker('worker-0'), sampledWorker('worker-1'), joining];
    const view = viewOf(opened(), committed(1), sampled(START_AT + 1100, { stateStep: 1, workers }));
    expect(overviewOf(view, START_AT + 1200)).toMatchObject({
      state: 'training',
      headline: 'training, step 2 of 1,000, 2 workers, 1 joining',
      step: 1,
      underWay: { step: 2, attempt: 1, phase: 'computing', slotsDone: 3, slots: 8 },
      workers: { training: 2, joining: 1, draining: 0, lost: 0 },
    });
  });

  test('a commit ends what the last sample said of the step', () => {
    const view = viewOf(opened(), sampled(START_AT + 900), committed(1));
    expect(overviewOf(view, START_AT + 1001).underWay).toBeNull();
  });

  test('steps that are computed again are called so', () => {
    const view = viewOf(opened(), committed(1), committed(2), sampled(START_AT + 3000, { stateStep: 0 }));
    expect(overviewOf(view, START_AT + 3000).headline).toBe('repeating, step 1 of 1,000, 2 workers');
    expect(overviewOf(view, START_AT + 3000).step).toBe(2);
  });

  test.each([
    ['completed', null, 'complete, step 2 of 1,000', []],
    ['stopped', null, 'stopped, step 2 of 1,000', []],
    ['failed', 'DIVERGED: step 3', 'failed, step 2 of 1,000', ['failed']],
  ] as const)('%s', (outcome, reason, headline, kinds) => {
    const end = { kind: 'ended', at: START_AT + 5000, outcome, step: 2, reason } as const;
    const overview = overviewOf(viewOf(opened(), committed(1), committed(2), end), START_AT + 9e9);
    expect(overview).toMatchObject({ state: outcome, headline, leftMs: null, underWay: null });
    expect(overview.problems.map(({ kind }) => kind)).toEqual(kinds);
  });

  test('silence without an end means that the coordinator is gone', () => {
    const view = viewOf(opened(), committed(1));
    expect(overviewOf(view, START_AT + 40_000).state).toBe('training');
    const overview = overviewOf(view, START_AT + 3 * 3600_000 + 1000);
    expect(overview).toMatchObject({ state: 'silent', leftMs: null });
    expect(overview.problems).toMatchObject([
      { level: 'error', kind: 'silent', text: 'The coordinator has recorded nothing for 3 hours.' },
    ]);
  });
});

describe('figures', () => {
  const steady = () => viewOf(opened(), ...Array.from({ length: 40 }, (_, index) => committed(index + 1)));

  test('speed, time left and goodput of a smooth run', () => {
    expect(overviewOf(steady(), START_AT + 40_000)).toMatchObject({
      tokensPerSecond: 1000,
      stepMs: STEP_MS,
      goodput: 1,
      leftMs: 960 * STEP_MS,
      tokensSeen: 40_000,
    });
  });

  test('a pause and repeated steps cost goodput, and repeated tokens are not counted twice', () => {
    const view = steady();
    view.apply(committed(41, { stepMs: 11_000 }));
    expect(view.goodput).toBeCloseTo(40 / 50, 10);
    for (const step of [38, 39, 40, 41]) view.apply(committed(step, { repeated: true }));
    expect(view.goodput).toBeCloseTo(40 / 54, 10);
    expect(view.tokensSeen).toBe(41_000);
    expect(view.series().step).toEqual(Array.from({ length: 41 }, (_, index) => index + 1));
  });

  test('a step that the commit log has told already is not counted again when its line comes', () => {
    const view = steady();
    const before = view.history({ kinds: ['commit'], before: null, limit: 1 }).counts.commit;
    view.apply(committed(40));
    expect(view.tokensSeen).toBe(40_000);
    expect(view.history({ kinds: ['commit'], before: null, limit: 1 }).counts.commit).toBe(before);
  });

  test('each worker is credited with its own tokens', () => {
    const view = steady();
    view.apply(sampled(START_AT + 40_100));
    expect(view.workers().map(({ name, tokensPerSecond }) => [name, tokensPerSecond])).toEqual([
      ['worker-0', 600],
      ['worker-1', 400],
    ]);
  });

  test('a run goes on counting where an earlier process stopped', () => {
    const view = viewOf(opened({ fromStep: 20, tokensSeen: 555 }), committed(21));
    expect(view).toMatchObject({ step: 21, tokensSeen: 1555, slotsCommitted: 168 });
  });

  test('a loss on held-out text has a curve of its own', () => {
    const view = viewOf(
      opened(),
      committed(1),
      noted(START_AT + 1500, 'validated', { step: 1, loss: 7.5 }, 'info'),
    );
    expect(overviewOf(view, START_AT + 1600).validationLoss).toBe(7.5);
    expect(view.series().validation).toEqual({ step: [1], loss: [7.5] });
  });
});

describe('workers', () => {
  test('come, enter, are lost, and come back under their name in one row', () => {
    const view = viewOf(opened(), joined('worker-1'));
    const row = () => view.workers()[0]!;
    expect(row()).toMatchObject({ state: 'preparing', host: 'here', pid: 7, generation: null });
    view.apply(
      noted(START_AT + 1, 'workerEntered', { worker: 'worker-1', generation: 3, device: 'GPU' }, 'info'),
    );
    expect(row()).toMatchObject({ state: 'training', generation: 3, device: 'GPU' });
    view.apply(lost('worker-1', START_AT + 2));
    expect(row()).toMatchObject({ state: 'lost', reason: 'its connection closed', endedAt: START_AT + 2 });
    view.apply(joined('worker-1'));
    expect(view.workers()).toHaveLength(1);
    expect(row()).toMatchObject({ state: 'preparing', reason: null, endedAt: null });
  });

  test('one that was asked to leave has left; one told to drain is shown as leaving until it has', () => {
    const view = viewOf(opened(), joined('worker-0'), joined('worker-1'), sampled(START_AT + 1));
    view.apply(lost('worker-0', START_AT + 2, 'asked to leave'));
    view.apply(noted(START_AT + 3, 'workerDraining', { worker: 'worker-1', step: 3 }, 'info'));
    view.apply(sampled(START_AT + 4, { workers: [sampledWorker('worker-1')] }));
    expect(view.workers().map(({ name, state }) => [name, state])).toEqual([
      ['worker-1', 'draining'],
      ['worker-0', 'left'],
    ]);
    view.apply(noted(START_AT + 5, 'workerLeft', { worker: 'worker-1', step: 3 }, 'info'));
    expect(view.workers()[0]).toMatchObject({ name: 'worker-1', state: 'left' });
    expect(overviewOf(view, START_AT + 6).workers).toMatchObject({ training: 0, lost: 0 });
  });

  test('a sample tells of whom no note has told, and of whom it tells no more', () => {
    const view = viewOf(
      opened(),
      sampled(START_AT + 1),
      sampled(START_AT + 2, { workers: [sampledWorker('worker-1')] }),
    );
    expect(view.workers().map(({ name, state }) => [name, state])).toEqual([
      ['worker-1', 'training'],
      ['worker-0', 'lost'],
    ]);
  });

  test('the slow one among them is marked, and among two the slower, not both', () => {
    const slow = (slotsPerSecond: number) => sampledWorker('worker-1', { slotsPerSecond });
    const marked = (...workers: ReturnType<typeof sampledWorker>[]) =>
      viewOf(opened(), sampled(START_AT, { workers }))
        .workers()
        .filter(({ straggler }) => straggler)
        .map(({ name }) => name);
    expect(marked(sampledWorker('worker-0'), slow(6))).toEqual(['worker-1']);
    expect(marked(sampledWorker('worker-0'), slow(7))).toEqual([]);
    expect(marked(slow(1))).toEqual([]);
  });

  test('network rates are taken over the newest samples, and a counter that began anew is no negative rate', () => {
    const at = (seconds: number, sentBytes: number) =>
      sampled(START_AT + 1000 * seconds, { workers: [sampledWorker('worker-0', { sentBytes })] });
    const view = viewOf(opened(), at(0, 0), at(2, 3000));
    expect(view.workers()[0]!.sentBytesPerSecond).toBe(1500);
    view.apply(at(4, 10));
    expect(view.workers()[0]!.sentBytesPerSecond).toBeGreaterThanOrEqual(0);
  });
});

describe('the timeline', () => {
  const times = { data: 1, compute: 700, wait: 100, reduce: 150, commit: 9, optimizer: 40 };

  test('a worker’s times belong to the step that it reports, one behind the newest', () => {
    const report = { kind: 'reported', at: START_AT, step: 1, worker: 'worker-0', times } as const;
    const view = viewOf(opened(), committed(1), committed(2), report);
    expect(view.timeline()).toMatchObject({
      workers: ['worker-0'],
      steps: [
        {
          step: 1,
          endedAt: START_AT + 1000,
          startedAt: START_AT,
          lanes: [{ worker: 'worker-0', phases: times }],
        },
        { step: 2, startedAt: START_AT + 1000, lanes: [] },
      ],
    });
  });

  test('holds the newest steps only, workers in the order that people count in', () => {
    const view = viewOf(opened());
    for (let step = 1; step <= 200; step += 1) {
      view.apply(committed(step));
      for (const worker of ['worker-10', 'worker-2'])
        view.apply({ kind: 'reported', at: 0, step, worker, times });
    }
    expect(view.timeline().steps.map(({ step }) => step)).toEqual(
      Array.from({ length: 60 }, (_, i) => 141 + i),
    );
    expect(view.timeline().workers).toEqual(['worker-2', 'worker-10']);
  });
});

describe('the history', () => {
  test('every kind has its entries, and commits do not push faults out', () => {
    const view = viewOf(
      opened(),
      joined('worker-0'),
      lost('worker-0', START_AT),
      noted(START_AT, 'attemptAborted', { step: 3, attempt: 1, worker: 'worker-0', reason: 'no frame came' }),
      noted(START_AT, 'frameRefused', { reason: 'stale' }),
      noted(START_AT, 'workerQuarantined', { worker: 'worker-0', reason: 'its replica differs' }, 'error'),
      noted(START_AT, 'checkpointStored', { step: 20 }, 'info'),
    );
    for (let step = 1; step <= 5000; step += 1) view.apply(committed(step));
    const { counts, entries, more } = view.history({ kinds: HISTORY_KINDS, before: null, limit: 10_000 });
    expect(counts).toEqual({
      ...{ commit: 5000, join: 1, loss: 1, abort: 1, divergence: 1, stale: 1, checkpoint: 1, run: 1 },
    });
    expect(more).toBe(false);
    const faults = entries.filter(({ kind }) => kind !== 'commit');
    expect(faults.map(({ kind }) => kind)).toEqual([
      ...['checkpoint', 'divergence', 'stale', 'abort', 'loss', 'join', 'run'],
    ]);
    expect(entries.length).toBeLessThan(600);
    expect(faults.find(({ kind }) => kind === 'loss')).toMatchObject({
      worker: 'worker-0',
      step: 3,
      text: 'worker-0 was lost at step 3: its connection closed',
      logs: ['coordinator.log', 'worker-0.log'],
    });
  });

  test('pages follow each other without gap or repetition', () => {
    const view = viewOf(opened());
    for (let step = 1; step <= 25; step += 1) view.apply(committed(step));
    const ids: number[] = [];
    let before: number | null = null;
    for (let more = true; more; ) {
      const page = view.history({ kinds: ['commit'], before, limit: 10 });
      ids.push(...page.entries.map(({ id }) => id));
      before = ids.at(-1)!;
      more = page.more;
    }
    expect(ids).toEqual(Array.from({ length: 25 }, (_, index) => 26 - index));
  });

  test('an event of a version to come is told by its name and fields', () => {
    const view = viewOf(opened(), noted(START_AT, 'moonRose', { step: 3, phase: 'full' }));
    const { entries } = view.history({ kinds: ['run'], before: null, limit: 1 });
    expect(entries[0]!.text).toBe('moonRose: step 3, phase full');
  });

  test('a worker’s name that is no file name leads to no log but the coordinator’s', () => {
    const view = viewOf(opened(), joined('../../etc/passwd'));
    const { entries } = view.history({ kinds: ['join'], before: null, limit: 1 });
    expect(entries[0]!.logs).toEqual(['coordinator.log']);
  });
});

describe('news since', () => {
  test('points and entries come once each; who is too far behind is told to fetch anew', () => {
    const view = viewOf(opened(), committed(1));
    const seen = { step: view.step, entry: view.lastEntry };
    view.apply(committed(2));
    view.apply(committed(3));
    expect(view.pointsSince(seen.step)).toMatchObject({ points: [{ step: 2 }, { step: 3 }], resync: false });
    expect(view.historySince(seen.entry)).toMatchObject({
      entries: [{ step: 2 }, { step: 3 }],
      resync: false,
    });
    for (let step = 4; step <= 1000; step += 1) view.apply(committed(step));
    expect(view.pointsSince(seen.step).resync).toBe(true);
    expect(view.pointsSince(seen.step).points.length).toBeLessThan(300);
    expect(view.historySince(seen.entry).resync).toBe(true);
    expect(view.pointsSince(1000)).toEqual({ points: [], resync: false });
  });
});
