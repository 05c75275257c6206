/**
 * The bits of an undisturbed run with one worker: what every schedule must come to, whatever happened.
 * Gradients are real vectors, a function of step, slot and the parameters they come from, with
 * exponents so far apart that any other order of summation gives other bits. Parameters are digests of
 * what they were made from: AdamW itself has its own tests.
 */

import { type CoordinatorSettings, learningRateAt } from '../coordinator/index.ts';
import { combineDigests, type Kernels, numBlocks } from '../kernels/index.ts';
import { FragmentStore } from '../worker/index.ts';

/** Floats of the whole vector: two blocks and a short one, so that three ranks have shards and a fourth has none. */
export const SIZE = 2 * 4096 + 5;
/** The step of which a slot overflows, in runs that skip such steps. */
const OVERFLOWING_STEP = 3;
/** Gradients kept for the next schedule, of 32 KiB each. */
const LEAVES_MAX = 1000;

export class Oracle {
  readonly kernels: Kernels;
  readonly #leaves = new Map<string, Float32Array>();
  readonly #gradients = new Map<string, string>();
  readonly #parameters = new Map<string, string>();

  /** Remembers what it has worked out: one oracle serves any number of schedules. */
  constructor(kernels: Kernels) {
    this.kernels = kernels;
  }

  /** The gradient of one micro-batch. Read only. */
  leaf(step: number, slot: number, parameters: string): Float32Array {
    const key = `${step} ${slot} ${parameters}`;
    const known = this.#leaves.get(key);
    if (known !== undefined) return known;
    const base = Number.parseInt(digestOf(key).slice(0, 8), 16);
    const leaf = Float32Array.from({ length: SIZE }, (_, index) => {
      let bits = Math.imul(base ^ index, 0x9e3779b1);
      bits = Math.imul(bits ^ (bits >>> 15), 0x85ebca77);
      // A signed fraction, scaled by 2^-8 .. 2^7.
      return (bits >> 8) * 2 ** (((bits >>> 3) & 15) - 31);
    });
    if (this.#leaves.size >= LEAVES_MAX) this.#leaves.clear();
    this.#leaves.set(key, leaf);
    return leaf;
  }

  digest(vector: Float32Array): string {
    const blocks = new BigUint64Array(numBlocks(vector.length));
    this.kernels.digestBlocks(vector, blocks, 0);
    return combineDigests(blocks);
  }

  /** Digest of the summed gradient of a step. */
  gradientOf(step: number, settings: CoordinatorSettings): string {
    const key = keyOf(step, settings);
    const known = this.#gradients.get(key);
    if (known !== undefined) return known;
    const { microBatches } = settings;
    const parameters = this.parametersAfter(step - 1, settings);
    const store = new FragmentStore(this.kernels, SIZE, microBatches);
    for (let slot = 0; slot < microBatches; slot += 1) {
      const leaf = store.leaf();
      leaf.set(this.leaf(step, slot, parameters));
      store.add(slot, leaf);
    }
    const value = this.digest(store.fragments()[0]!.value);
    this.#gradients.set(key, value);
    return value;
  }

  /** The slot whose gradient is not finite, or null: the third step's last, where such steps are skipped. */
  overflowingSlot(step: number, { microBatches, optimizer }: CoordinatorSettings): number | null {
    return optimizer.onNotFinite === 'skip' && step === OVERFLOWING_STEP ? microBatches - 1 : null;
  }

  /** The parameters of a committed step. */
  parametersAfter(step: number, settings: CoordinatorSettings): string {
    if (step === 0) return INITIAL;
    if (this.overflowingSlot(step, settings) !== null) return this.parametersAfter(step - 1, settings);
    const key = keyOf(step, settings);
    const known = this.#parameters.get(key);
    if (known !== undefined) return known;
    let tokens = 0;
    for (let slot = 0; slot < settings.microBatches; slot += 1) tokens += tokensOf(step, slot);
    const rate = learningRateAt(step, settings.optimizer, settings.totalSteps);
    const before = this.parametersAfter(step - 1, settings);
    const value = updated(before, this.gradientOf(step, settings), tokens, rate);
    this.#parameters.set(key, value);
    return value;
  }
}

function digestOf(text: string): string {
  return combineDigests(BigUint64Array.from(text, (character) => BigInt(character.charCodeAt(0))));
}

export const INITIAL = digestOf('initial');

/** Real target tokens of a micro-batch. */
export function tokensOf(step: number, slot: number): number {
  return 1 + ((step * 7 + slot * 3) % 11);
}

/** The parameters that an update makes of others. */
export function updated(parameters: string, gradient: string, tokens: number, learningRate: number): string {
  return digestOf(`${parameters} - ${gradient} / ${tokens} * ${learningRate}`);
}

function keyOf(step: number, { microBatches, totalSteps, optimizer }: CoordinatorSettings): string {
  return `${step}/${totalSteps} of ${microBatches}, ${optimizer.onNotFinite}`;
}
