/**
 * Where the marks of the step timeline go: steps from left to right in proportion to the time they took, one lane for each
 * worker, its phases one after the other. Pauses between steps that would squeeze everything else are cut short and marked.
 * Pure; lengths are in the unit of `width`.
 */
import { PHASES, type Phase, type TimelineView } from '../contract.ts';

export interface TimelineMark {
  readonly x: number;
  readonly width: number;
  readonly lane: number;
  readonly phase: Phase;
  /** Index into the steps that were laid out. */
  readonly step: number;
}

export interface StepSpan {
  readonly x: number;
  readonly width: number;
}

export interface TimelineLayout {
  readonly marks: readonly TimelineMark[];
  /** One for each step. */
  readonly spans: readonly StepSpan[];
  /** Pauses that were cut short: where, and how long they were. */
  readonly cuts: readonly { readonly x: number; readonly milliseconds: number }[];
}

/** A pause is drawn at most this many median steps long. */
const PAUSE_MAX = 1;

export function layOutTimeline({ workers, steps }: TimelineView, width: number): TimelineLayout {
  const durations = steps.map(({ startedAt, endedAt }) => Math.max(1, endedAt - startedAt));
  const pauseMaxMs = PAUSE_MAX * medianOf(durations);
  const pauses = steps.map(({ startedAt }, index) =>
    index === 0 ? 0 : Math.max(0, startedAt - steps[index - 1]!.endedAt),
  );
  const drawn = pauses.map((pause) => Math.min(pause, pauseMaxMs));
  const totalMs = sum(durations) + sum(drawn);
  const scale = totalMs === 0 ? 0 : width / totalMs;

  const marks: TimelineMark[] = [];
  const spans: StepSpan[] = [];
  const cuts: { x: number; milliseconds: number }[] = [];
  const laneOf = new Map(workers.map((worker, lane) => [worker, lane]));
  let atMs = 0;
  for (const [index, { lanes }] of steps.entries()) {
    if (pauses[index]! > drawn[index]!) {
      cuts.push({ x: (atMs + drawn[index]! / 2) * scale, milliseconds: pauses[index]! });
    }
    atMs += drawn[index]!;
    const endMs = atMs + durations[index]!;
    spans.push({ x: atMs * scale, width: durations[index]! * scale });
    for (const { worker, phases } of lanes) {
      const lane = laneOf.get(worker);
      if (lane === undefined) continue;
      let phaseMs = atMs;
      for (const phase of PHASES) {
        // Clocks of two processes: a worker's phases may add up to a little more than the coordinator's step.
        const untilMs = Math.min(endMs, phaseMs + Math.max(0, phases[phase]));
        if (untilMs > phaseMs) {
          marks.push({ x: phaseMs * scale, width: (untilMs - phaseMs) * scale, lane, phase, step: index });
        }
        phaseMs = untilMs;
      }
    }
    atMs = endMs;
  }
  return { marks, spans, cuts };
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
