/** The benchmark's findings as lines for a terminal. Pure; what was not measured is not printed. */
import { type Column, renderTable } from '../base/index.ts';
import type { AllReduceFigures, AllReduceTimes } from './all-reduce.ts';
import type { CheckpointFigures } from './checkpoints.ts';
import type { Summary } from './statistics.ts';
import { PHASES, type StepPhases } from './step-phases.ts';
import { formatFigure, formatRatio, formatSummary, NOT_MEASURED } from './table.ts';
import type { TokenizingFigures } from './tokenizing.ts';
import type { TrainingFigures } from './training.ts';
import type { ThreadsGain } from './update-cost.ts';

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

export function reportPhases(figures: readonly TrainingFigures[]): string[] {
  const cells = (phases: StepPhases) => PHASES.map((phase) => formatFigure(phases[phase]));
  const rows = figures.flatMap(({ preset, workers, phases }) =>
    phases === null ? [] : [[preset, String(workers), ...cells(phases)]],
  );
  if (rows.length === 0) return [];
  return [
    'Lockstep, milliseconds per step by phase: means over workers and over the middle half of the steps; compute is forward and backward, imbalance what the longest took beyond the mean, rest is leases and messages',
    ...renderTable([left('preset'), right('workers'), ...PHASES.map(right)], rows),
  ];
}

/** What a step spends beside forward and backward, and what a second worker is worth. */
export function reportOverhead(figures: readonly TrainingFigures[]): string[] {
  const rows = figures.flatMap(({ preset, workers, phases, lockstep, peer }) => {
    if (phases === null) return [];
    const alone = figures.find((other) => other.preset === preset && other.workers === 1);
    const gain = (speed: Summary | null, single: Summary | null | undefined) =>
      speed === null || single === null || single === undefined ? null : speed.median / single.median;
    return [
      [
        preset,
        String(workers),
        `${formatFigure((1 - phases.compute / phases.step) * 100)} %`,
        formatRatio(gain(lockstep, alone?.lockstep)),
        formatRatio(gain(peer, alone?.peer)),
      ],
    ];
  });
  if (rows.length === 0) return [];
  return [
    'share of a step outside forward and backward, and tokens/s as a multiple of one worker of the same system',
    ...renderTable(
      [left('preset'), right('workers'), right('outside'), right('lockstep'), right('torch ddp (gloo)')],
      rows,
    ),
  ];
}

export function reportCheckpoints(figures: readonly CheckpointFigures[]): string[] {
  const rows = figures.map(({ preset, megabytes, lockstep, peer, ratio }) => [
    preset,
    formatFigure(megabytes),
    ...[lockstep.stall, lockstep.write, lockstep.read].map((time) => formatFigure(time.median)),
    ...(peer === null
      ? [NOT_MEASURED, NOT_MEASURED]
      : [peer.save, peer.load].map((time) => formatFigure(time.median))),
    formatRatio(peer === null ? null : peer.save.median / lockstep.stall.median),
    formatRatio(ratio),
  ]);
  const columns = [
    'MB',
    'stall',
    'write',
    'read',
    'torch.save',
    'torch.load',
    'ratio of stalls',
    'ratio of sums',
  ];
  return [
    'checkpoints, milliseconds: medians; training waits for the stall alone, with PyTorch for all of torch.save',
    "Lockstep's write syncs, reads back and hashes, its read verifies every byte; PyTorch's do neither",
    ...renderTable([left('preset'), ...columns.map(right)], rows),
    ...skippedLines(figures.map(({ preset, skipped }) => [`checkpoints of ${preset}`, skipped])),
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
  { stream, copy }: { readonly stream: Summary | null; readonly copy: Summary | null },
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
    stream === null
      ? NOT_MEASURED
      : `${formatFigure((busBandwidth(bytes, numRanks, lockstep.p50) / stream.median) * 100)} %`,
    numRanks > numCores ? 'more processes than cores' : '',
  ]);
  return [
    'all-reduce of float32: milliseconds of the slowest rank, cpu of all ranks together, GB/s = bytes / p50; ratio above 1: Lockstep is faster',
    "memory: as between workers of one host; sockets: TCP, as between hosts; gloo's are TCP. Lockstep's include cover check, digest and norm",
    "bfloat16: sums are rounded to it and half the bytes travel (gradientPrecision); gloo's and all others' are float32",
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
        right('of stream'),
        left(''),
      ],
      rows,
    ),
    ...(stream === null
      ? []
      : [
          'of stream: bytes that a rank must send, 2 (N-1)/N of the vector, per second, as a share of a raw TCP stream',
          `raw TCP stream between two Node.js processes, one direction: ${formatSummary(stream)} GB/s`,
        ]),
    ...(copy === null ? [] : [`copy from memory to memory: ${formatSummary(copy)} GB/s`]),
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

export function reportThreadsGain(gain: ThreadsGain | null): string[] {
  if (gain === null) return ['host threads: a worker alone on this machine has one'];
  const { threads, update, leaf } = gain;
  return [
    `${threads} host threads beside one: AdamW ${formatFigure(update)} times as fast, a gradient added to a sum ${formatFigure(leaf)} times`,
  ];
}

/** GB/s that each rank sends at the least (nccl-tests, PERFORMANCE.md: busbw). */
function busBandwidth(bytes: number, numRanks: number, milliseconds: number): number {
  return ((2 * (numRanks - 1)) / numRanks) * (bytes / 1e6 / milliseconds);
}

/** One line per reason, however many rows it concerns. */
function skippedLines(rows: readonly (readonly [string, string | null])[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const [name, reason] of rows) {
    if (reason !== null) byReason.set(reason, [...(byReason.get(reason) ?? []), name]);
  }
  return [...byReason].map(([reason, names]) => `skipped: PyTorch for ${names.join('; ')}: ${reason}`);
}
