/** What is wrong, said when it is and no longer than it is: each problem appears by its cause and goes with it. */
import { expect, test } from 'vitest';
import type { Telemetry } from '../../../src/dashboard/view/record.ts';
import {
  committed,
  noted,
  opened,
  overviewOf,
  START_AT,
  sampled,
  sampledWorker,
  viewOf,
} from '../../support/telemetry-fixtures.ts';

const MINUTES = 60_000;

function kindsAt(nowAt: number, ...records: readonly Telemetry[]): string[] {
  return overviewOf(viewOf(opened(), ...records), nowAt).problems.map(({ kind }) => kind);
}

/** A healthy run at that time, so that only what is asked for can be wrong. */
const well = (at: number) => [committed(1, { at }), sampled(at)];

test('all is well in a run that trains', () => {
  expect(kindsAt(START_AT + 1000, ...well(START_AT + 1000))).toEqual([]);
});

test('a lost worker, for ten minutes or until it is back', () => {
  const joined = (at: number) => noted(at, 'workerJoined', { worker: 'worker-9', host: 'h', pid: 1 }, 'info');
  const lost = noted(START_AT, 'workerLost', { worker: 'worker-9', reason: 'silent', step: 1 });
  const at = START_AT + MINUTES;
  expect(kindsAt(at, joined(START_AT), lost, ...well(at))).toEqual(['workerLost']);
  expect(kindsAt(START_AT + 11 * MINUTES, joined(START_AT), lost, ...well(START_AT + 11 * MINUTES))).toEqual(
    [],
  );
  const back = sampled(at, { workers: [sampledWorker('worker-0'), sampledWorker('worker-9')] });
  expect(kindsAt(at, joined(START_AT), lost, joined(at), back)).toEqual([]);
});

test('no worker, unless one is on its way or it has only just begun', () => {
  const none = (at: number) => sampled(at, { phase: 'gathering', workers: [] });
  expect(kindsAt(START_AT + 5000, none(START_AT + 1000))).toEqual([]);
  expect(kindsAt(START_AT + 15_000, none(START_AT + 1000))).toEqual(['noWorkers']);
  const joining = sampled(START_AT + 14_000, { workers: [sampledWorker('w', { phase: 'preparing' })] });
  expect(kindsAt(START_AT + 15_000, joining)).toEqual([]);
});

test('attempts that are given up again and again, not a single one', () => {
  const abort = noted(START_AT, 'attemptAborted', { step: 1, attempt: 1, worker: 'w', reason: 'r' });
  const at = START_AT + MINUTES;
  expect(kindsAt(at, abort, abort, ...well(at))).toEqual([]);
  expect(kindsAt(at, abort, abort, abort, ...well(at))).toEqual(['aborts']);
});

test('a checkpoint given up, until one is stored', () => {
  const given = noted(START_AT, 'checkpointAbandoned', { step: 20, reason: 'worker-1 was lost' });
  const stored = noted(START_AT + 1, 'checkpointStored', { step: 21 }, 'info');
  const at = START_AT + MINUTES;
  expect(kindsAt(at, given, ...well(at))).toEqual(['checkpoint']);
  expect(kindsAt(at, given, stored, ...well(at))).toEqual([]);
});

test('a queue in trouble is an error, for as long as it is news', () => {
  const trouble = noted(START_AT, 'queueTrouble', { reason: 'connect ECONNREFUSED' });
  expect(kindsAt(START_AT + 10_000, trouble, ...well(START_AT + 10_000))).toEqual(['queue']);
  expect(kindsAt(START_AT + 40_000, trouble, ...well(START_AT + 40_000))).toEqual([]);
});

test('errors come before warnings, and each says what to do', () => {
  const at = START_AT + 1000;
  const slow = sampledWorker('worker-1', { slotsPerSecond: 1 });
  const records = [
    noted(START_AT, 'workerRefused', { incarnation: 'x', reason: 'it computes with another version' }),
    noted(START_AT, 'workerQuarantined', { worker: 'worker-2', reason: 'its replica differs' }, 'error'),
    committed(1, { at }),
    sampled(at, { workers: [sampledWorker('worker-0'), slow] }),
  ];
  const { problems } = overviewOf(viewOf(opened(), ...records), at);
  expect(problems.map(({ level, kind }) => [level, kind])).toEqual([
    ['error', 'divergence'],
    ['warning', 'straggler'],
    ['warning', 'refused'],
  ]);
  for (const { text, remedy } of problems) {
    expect(text).toMatch(/^[A-Z\w].*[.!]$/);
    expect(remedy).toMatch(/^[A-Z].*\.$/);
  }
});
