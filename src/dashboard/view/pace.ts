/**
 * How fast a run is, from its newest commits: time and tokens of a step, what each worker contributed, the
 * time left, and goodput. Windows count steps, so that a slow run is judged by as many as a fast one. Pure.
 */
import { quantile } from '../../base/index.ts';
import type { CommittedRecord } from './record.ts';
import { Ring } from './ring.ts';

/** Steps that speed is averaged over. */
const SPEED_STEPS = 16;
/** Steps that goodput looks back on, and the fewest it can be told from. */
const GOODPUT_STEPS = 64;
const GOODPUT_STEPS_MIN = 8;

interface PacedStep {
  readonly ms: number;
  readonly tokens: number;
  readonly repeated: boolean;
  readonly workers: CommittedRecord['workers'];
}

export class Pace {
  #steps = new Ring<PacedStep>(GOODPUT_STEPS);

  /** Steps without a duration (the first after a start) tell nothing of speed. */
  add({ stepMs, tokens, repeated, workers }: CommittedRecord): void {
    if (stepMs !== null && stepMs > 0) this.#steps.push({ ms: stepMs, tokens, repeated, workers });
  }

  /** Mean over the newest steps, pauses between them included; null before the second commit. */
  get stepMs(): number | null {
    const recent = this.#recent();
    return recent.length === 0 ? null : total(recent) / recent.length;
  }

  get tokensPerSecond(): number | null {
    return rateOf(this.#recent(), ({ tokens }) => tokens);
  }

  /** A worker's share of the newest steps' tokens, per second. */
  tokensPerSecondOf(name: string): number | null {
    const tokensOf = ({ workers }: PacedStep) => workers.find(({ worker }) => worker === name)?.tokens ?? 0;
    return rateOf(this.#recent(), tokensOf);
  }

  /**
   * The share of the newest steps' time that would have been enough had each taken no longer than the median
   * one and none been computed twice: 1 in a smooth run, less where workers were lost or steps repeated.
   */
  get goodput(): number | null {
    const steps = this.#steps.items;
    if (steps.length < GOODPUT_STEPS_MIN) return null;
    const usual = quantile(
      steps.map(({ ms }) => ms),
      0.5,
    );
    const useful = steps.reduce((sum, { ms, repeated }) => sum + (repeated ? 0 : Math.min(ms, usual)), 0);
    return useful / total(steps);
  }

  #recent(): readonly PacedStep[] {
    return this.#steps.items.slice(-SPEED_STEPS);
  }
}

function total(steps: readonly PacedStep[]): number {
  return steps.reduce((sum, { ms }) => sum + ms, 0);
}

function rateOf(steps: readonly PacedStep[], amount: (step: PacedStep) => number): number | null {
  if (steps.length === 0) return null;
  return (steps.reduce((sum, step) => sum + amount(step), 0) * 1000) / total(steps);
}
