/**
 * The bits of an undisturbed run, as far as a simulation knows bits: digests that depend on step, slots
 * and what was computed from what, and on nothing else. The naive twin of a whole cluster.
 */
import { createHash } from 'node:crypto';
import { learningRateAt } from '../../src/coordinator/index.ts';
import { SETTINGS } from './coordinator-script.ts';

export const INITIAL = digestOf('initial');
const known = new Map<string, string>();

export function digestOf(text: string): string {
  return createHash('md5').update(text).digest('hex');
}

/** A gradient is a digest over its cover: which slots are in it, each with the parameters it came from. */
export function gradientOver(step: number, cover: readonly (readonly [number, string])[]): string {
  return digestOf(`gradient ${step} ${cover.map(([slot, parameters]) => `${slot}:${parameters}`).join(' ')}`);
}

export function gradientOf(step: number, microBatches: number): string {
  const parameters = parametersAfter(step - 1, microBatches);
  return gradientOver(
    step,
    Array.from({ length: microBatches }, (_, slot) => [slot, parameters] as const),
  );
}

export function tokensOf(step: number, slot: number): number {
  return 1 + ((step * 7 + slot * 3) % 11);
}

export function updated(parameters: string, gradient: string, tokens: number, learningRate: number): string {
  return digestOf(`${parameters} - ${gradient} / ${tokens} * ${learningRate}`);
}

export function parametersAfter(step: number, microBatches: number): string {
  if (step === 0) return INITIAL;
  const key = `${step} of ${microBatches}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  let tokens = 0;
  for (let slot = 0; slot < microBatches; slot += 1) tokens += tokensOf(step, slot);
  const value = updated(
    parametersAfter(step - 1, microBatches),
    gradientOf(step, microBatches),
    tokens,
    learningRateAt(step, SETTINGS.optimizer, SETTINGS.totalSteps),
  );
  known.set(key, value);
  return value;
}
