/** The benchmark's findings as lines for a terminal. Pure; what was not measured is not printed. */
import { type Column, renderTable } from '../base/index.ts';
import type { AllReduceFigures, AllReduceTimes } from './all-reduce.ts';
import type { Summary } from './statistics.ts';
import { formatFigure, formatRatio, formatSummary, NOT_MEASURED } from './table.ts';
import type { TokenizingFigures } from './tokenizing.ts';
import type { PhaseFigures, TrainingFigures } from './training.ts';

const left = (title: string): Column => ({ title, align: 'left' });
const right = (title: string): Column => ({ title, align: 'right' });

export function reportTraining(figures: readonly TrainingFigures[]): string[] {
  const rows = figures.map(({ preset, workers, lockstep, peer, ratio }) => [
    preset,
    String(workers),
    String(lockstep.count),
    formatSummary(lockstep),
    formatSummary(peer),
    formatRatio(ratio),
  ]);
  return [
    'training, real target tokens per second: median (min..max) over steps; ratio above 1: Lockstep is faster',
    ...renderTable(
      [
        left('preset'),
        right('workers'),
        right('steps'),
        right('lockstep'),
        right('torch ddp (gloo)'),
        right('ratio'),
      ],
      rows,
    ),
    ...skippedLines(figures.map(({ preset, workers, skipped }) => [`${preset}, ${workers}`, skipped])),
  ];
}

const PHASES = ['data', 'compute', 'reduce', 'commit', 'optimizer', 'rest', 'step'] as const;

export function reportPhases(figures: readonly TrainingFigures[]): string[] {
  const cells = (phases: PhaseFigures) => PHASES.map((phase) => formatFigure(phases[phase]));
  const rows = figures.flatMap(({ preset, workers, phases }) =>
    phases === null ? [] : [[preset, String(workers), ...cells(phases)]],
  );
  if (rows.length === 0) return [];
  return [
    'Lockstep, milliseconds per step by phase: medians of the mean over workers; compute is forward and backward, rest is leases, messages and waiting for others',
    ...renderTable([left('preset'), right('workers'), ...PHASES.map(right)], rows),
  ];
}

export function reportFaultTolerance(figures: readonly TrainingFigures[]): string[] {
  const percent = (share: number) => `${formatFigure(share * 100)} %`;
  const rows = figures.flatMap(({ preset, workers, faultTolerance: cost }) =>
    cost === null
      ? []
      : [
          [
            preset,
            String(workers),
            ...[cost.settlement, cost.digests, cost.total].map(formatFigure),
            percent(cost.shareOfStep),
            percent(cost.shareOf250Ms),
          ],
        ],
  );
  if (rows.length === 0) return [];
  const columns = ['votes, log, fsync', 'digests', 'sum', 'of its step', 'of a 250 ms step'];
  return [
    'what surviving faults costs while there are none, milliseconds per step: medians; the way of the last vote and of the commit, with the record on disk, and two digests of the whole vector',
    ...renderTable([left('preset'), right('workers'), ...columns.map(right)], rows),
  ];
}

export function reportMemory(figures: readonly TrainingFigures[]): string[] {
  const rows = figures.flatMap(({ preset, workers, memory }) =>
    memory === null
      ? []
      : [
          [
            preset,
            String(workers),
            formatFigure(memory.bytes / 2 ** 20),
            formatFigure(memory.timesParameters),
          ],
        ],
  );
  if (rows.length === 0) return [];
  return [
    "peak resident memory of a worker, with Node.js, engine and activations; times: as a multiple of the parameters' bytes",
    ...renderTable([left('preset'), right('workers'), right('MiB'), right('times')], rows),
  ];
}

export function reportAllReduce(
  figures: readonly AllReduceFigures[],
  stream: Summary | null,
  numCores: number,
): string[] {
  const times = (value: AllReduceTimes | null) =>
    value === null
      ? [NOT_MEASURED, NOT_MEASURED, NOT_MEASURED]
      : [value.p50, value.p99, value.cpuP50].map(formatFigure);
  const rate = (bytes: number, value: AllReduceTimes | null) =>
    value === null ? NOT_MEASURED : formatFigure(bytes / 1e6 / value.p50);
  const rows = figures.map(({ numRanks, bytes, transport, lockstep, peer, ratio }) => [
    `${bytes / 1e6} MB`,
    String(numRanks),
    transport,
    String(lockstep.iterations),
    ...times(lockstep),
    rate(bytes, lockstep),
    ...times(peer),
    rate(bytes, peer),
    formatRatio(ratio),
    numRanks > numCores ? 'more processes than cores' : '',
  ]);
  return [
    'all-reduce of float32: milliseconds of the slowest rank, cpu of all ranks together, GB/s = bytes / p50; ratio above 1: Lockstep is faster',
    "memory: as between workers of one host; sockets: TCP, as between hosts; gloo's are TCP. Lockstep's include cover check, digest and norm",
    ...renderTable(
      [
        left('size'),
        right('processes'),
        left('through'),
        right('runs'),
        right('lockstep p50'),
        right('p99'),
        right('cpu'),
        right('GB/s'),
        right('gloo p50'),
        right('p99'),
        right('cpu'),
        right('GB/s'),
        right('ratio'),
        left(''),
      ],
      rows,
    ),
    ...(stream === null
      ? []
      : [`raw TCP stream between two Node.js processes, one direction: ${formatSummary(stream)} GB/s`]),
    ...skippedLines(
      figures.map(({ bytes, numRanks, skipped }) => [`${bytes / 1e6} MB over ${numRanks}`, skipped]),
    ),
  ];
}

export function reportTokenizing({ megabytes, articles, lockstep, peers }: TokenizingFigures): string[] {
  const rows = peers.map(({ name, speed, ratio }) => [
    name,
    formatSummary(lockstep),
    formatSummary(speed),
    formatRatio(ratio),
  ]);
  return [
    `encoding ${articles} articles of ${formatFigure(megabytes)} MB, MB/s: median (min..max) over rounds; ratio above 1: Lockstep is faster`,
    ...renderTable([left('peer'), right('lockstep'), right('peer MB/s'), right('ratio')], rows),
    ...peers.flatMap(({ name, skipped }) => (skipped === null ? [] : [`skipped: ${name}: ${skipped}`])),
  ];
}

/** One line per reason, however many rows it concerns. */
function skippedLines(rows: readonly (readonly [string, string | null])[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const [name, reason] of rows) {
    if (reason !== null) byReason.set(reason, [...(byReason.get(reason) ?? []), name]);
  }
  return [...byReason].map(([reason, names]) => `skipped: PyTorch for ${names.join('; ')}: ${reason}`);
}
