/** How figures are printed, and what is not printed because nobody measured it. */
import { describe, expect, test } from 'vitest';
import { renderTable } from '../../../src/base/index.ts';
import type { AllReduceFigures } from '../../../src/bench/all-reduce.ts';
import { describeLoad, parseLoadAverages, processorShares } from '../../../src/bench/machine.ts';
import {
  reportAllReduce,
  reportCheckpoints,
  reportFaultTolerance,
  reportMemory,
  reportOverhead,
  reportPhases,
  reportTokenizing,
  reportTraining,
} from '../../../src/bench/report.ts';
import { formatFigure, formatSummary } from '../../../src/bench/table.ts';
import type { TrainingFigures } from '../../../src/bench/training.ts';

const training: TrainingFigures = {
  preset: 'tiny',
  workers: 2,
  workload: 'tiny: what was trained',
  numParameters: 1e6,
  microBatches: 8,
  lockstep: { count: 6, median: 1500, min: 1234.6, max: 1600 },
  peer: { count: 6, median: 3000, min: 2900, max: 3100 },
  ratio: 0.5,
  lossLockstep: 7.5,
  lossPeer: 7.6,
  faultTolerance: { settlement: 2, digests: 0.5, total: 2.5, shareOfStep: 0.003, shareOf250Ms: 0.01 },
  phases: {
    ...{ data: 3.21, compute: 800, imbalance: 15, reduce: 12 },
    ...{ commit: 1.5, optimizer: 4, rest: 5, step: 841 },
  },
  memory: { bytes: 512 * 2 ** 20, timesParameters: 16 },
  skipped: null,
};

const allReduce: AllReduceFigures = {
  numRanks: 4,
  bytes: 4e6,
  transport: 'memory',
  lockstep: { iterations: 30, p50: 8, p99: 11, cpuP50: 14, cpuMin: 12 },
  peer: { iterations: 30, p50: 4, p99: 5, cpuP50: 7, cpuMin: 6 },
  ratio: 0.5,
  skipped: null,
};

describe('tables', () => {
  test('columns are aligned and lines end without spaces', () => {
    const lines = renderTable(
      [
        { title: 'name', align: 'left' },
        { title: 'ms', align: 'right' },
        { title: '', align: 'left' },
      ],
      [
        ['a', '1,000', ''],
        ['longer', '2', 'noted'],
      ],
    );
    expect(lines).toEqual(['name       ms', 'a       1,000', 'longer      2  noted']);
  });

  test.each([
    [0, '0.00'],
    [0.01234, '0.0123'],
    [9.996, '10.00'],
    [12.34, '12.3'],
    [1234.6, '1,235'],
    [-3.21, '-3.21'],
  ])('%f is printed as %s', (value, text) => {
    expect(formatFigure(value)).toBe(text);
  });

  test('a summary shows median and range, or that there is none', () => {
    expect(formatSummary(training.lockstep)).toBe('1,500 (1,235..1,600)');
    expect(formatSummary(null)).toBe('-');
  });
});

describe('report', () => {
  test('training stands beside its peer', () => {
    const [, , row, ...rest] = reportTraining([training]);
    expect(row).toMatch(/^tiny +2 +6 +1,500 \(1,235\.\.1,600\) +3,000 \(2,900\.\.3,100\) +0\.50$/);
    expect(rest).toEqual([]);
  });

  test('without a peer there is one line that says why, and no figure in its place', () => {
    const alone = { ...training, peer: null, ratio: null, lossPeer: null, skipped: 'no torch here' };
    const lines = reportTraining([alone, { ...alone, preset: 'small' }]);
    expect(lines[2]).toMatch(/1,600\) +- +-$/);
    expect(lines.slice(4)).toEqual(['skipped: PyTorch for tiny, 2; small, 2: no torch here']);
  });

  test('phases are printed in the order of a step', () => {
    const [, titles, row] = reportPhases([training]);
    expect(titles?.split(/ +/).slice(2)).toEqual([
      'data',
      'compute',
      'imbalance',
      'reduce',
      'commit',
      'optimizer',
      'rest',
      'step',
    ]);
    expect(row?.split(/ +/).slice(2)).toEqual(['3.21', '800', '15.0', '12.0', '1.50', '4.00', '5.00', '841']);
    expect(reportPhases([{ ...training, phases: null }])).toEqual([]);
  });

  test('the cost of fault tolerance is told in time and as shares', () => {
    const [, , row] = reportFaultTolerance([training]);
    expect(row).toMatch(/^tiny +2 +2\.00 +0\.500 +2\.50 +0\.300 % +1\.00 %$/);
    expect(reportFaultTolerance([{ ...training, faultTolerance: null }])).toEqual([]);
  });

  test('memory is told in MiB and as a multiple of the parameters', () => {
    const [, , row] = reportMemory([training]);
    expect(row).toMatch(/^tiny +2 +512 +16\.0$/);
    expect(reportMemory([{ ...training, memory: null }])).toEqual([]);
  });

  test('an all-reduce over more processes than cores says so', () => {
    const stream = { count: 1, median: 2, min: 2, max: 2 };
    const limits = { stream, copy: null };
    const crowded = reportAllReduce([allReduce], limits, 2);
    expect(crowded).toHaveLength(7);
    expect(crowded[4]).toMatch(
      /^4 MB +4 +memory +30 +8\.00 +11\.0 +14\.0 +0\.500 +4\.00 +5\.00 +7\.00 +1\.00 +0\.50 +37\.5 % +more processes than cores$/,
    );
    expect(reportAllReduce([allReduce], { stream: null, copy: null }, 4)[4]).not.toContain('cores');
  });
});

test('what lies outside forward and backward is a share of the step, beside the gain over one worker', () => {
  const alone = { ...training, workers: 1, lockstep: { ...training.lockstep, median: 1000 } };
  const [, , single, both] = reportOverhead([alone, training]);
  expect(single).toMatch(/^tiny +1 +4\.88 % +1\.00 +1\.00$/);
  expect(both).toMatch(/^tiny +2 +4\.88 % +1\.50 +1\.00$/);
});

test('checkpoints stand beside torch, stall and sum apart', () => {
  const at = (median: number) => ({ count: 3, median, min: median, max: median });
  const lockstep = { stall: at(10), write: at(150), read: at(40) };
  const figures = { preset: 'small', megabytes: 120, lockstep, skipped: null };
  const measured = { ...figures, peer: { save: at(80), load: at(20) }, ratio: 0.5 };
  expect(reportCheckpoints([measured])[3]).toMatch(
    /^small +120 +10\.0 +150 +40\.0 +80\.0 +20\.0 +8\.00 +0\.50$/,
  );
  const alone = { ...figures, peer: null, ratio: null, skipped: 'no torch here' };
  expect(reportCheckpoints([alone]).at(-1)).toBe('skipped: PyTorch for checkpoints of small: no torch here');
});

describe('load', () => {
  const reading = (user: number, idle: number, iowait: number, steal: number) =>
    `cpu  ${user} 0 0 ${idle} ${iowait} 0 0 ${steal} 500 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n`;

  test('shares are taken of the time between two readings, guests not counted twice', () => {
    const shares = processorShares(reading(100, 100, 0, 0), reading(140, 150, 5, 5));
    expect(shares).toEqual({ idleShare: 0.55, stealShare: 0.05 });
  });

  test('two equal readings are no division by zero', () => {
    expect(processorShares(reading(1, 1, 1, 1), reading(1, 1, 1, 1))).toEqual({
      idleShare: 0,
      stealShare: 0,
    });
  });

  test('is told in one line', () => {
    const loadAverages = parseLoadAverages('0.50 1.25 2.00 3/134 7515\n');
    expect(describeLoad({ loadAverages, idleShare: 0.55, stealShare: 0.05 })).toBe(
      'load before: 0.50 1.25 2.00; processors 55 % idle, 5 % stolen',
    );
  });
});

test('tokenizing names each peer, its ratio, and why one is missing', () => {
  const lockstep = { count: 3, median: 6, min: 5, max: 7 };
  const lines = reportTokenizing({
    megabytes: 0.5,
    articles: 164,
    lockstep,
    peers: [
      { name: 'one', speed: { count: 3, median: 2, min: 1, max: 3 }, ratio: 3, skipped: null },
      { name: 'two', speed: null, ratio: null, skipped: 'npm: no network' },
    ],
  });
  expect(lines[0]).toContain('164 articles of 0.500 MB');
  expect(lines[2]).toMatch(/^one +6\.00 \(5\.00\.\.7\.00\) +2\.00 \(1\.00\.\.3\.00\) +3\.00$/);
  expect(lines[3]).toMatch(/^two .* - {2,}-$/);
  expect(lines[4]).toBe('skipped: two: npm: no network');
});
