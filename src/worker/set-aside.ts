/**
 * Reduced gradients of committed steps that a lagging replica has not taken in yet: copies in shared
 * memory, since the place where they were reduced is needed for the next step. Their number is bounded;
 * a worker without room for another does not vote, and the run waits for it.
 */
import { assert } from '../base/index.ts';
import type { SharedGradient } from './thread-messages.ts';

/** Most memory for gradients that wait, as long as at least two may. */
const BYTES_MAX = 1024 ** 3;

export class SetAside {
  /** Gradients that may wait. */
  readonly capacity: number;
  readonly #source: SharedGradient;
  readonly #byStep = new Map<number, SharedGradient>();
  readonly #free: SharedGradient[] = [];

  /** `source` is where steps are reduced. */
  constructor(source: SharedGradient) {
    this.#source = source;
    this.capacity = Math.max(2, Math.floor(BYTES_MAX / source.reduced.byteLength));
  }

  /** Copies what was reduced. */
  add(step: number): void {
    const { reduced, blockSums } = this.#source;
    const copy = this.#free.pop() ?? {
      reduced: new Float32Array(new SharedArrayBuffer(reduced.byteLength)),
      blockSums: new Float64Array(new SharedArrayBuffer(blockSums.byteLength)),
    };
    copy.reduced.set(reduced);
    copy.blockSums.set(blockSums);
    this.#byStep.set(step, copy);
  }

  get(step: number): SharedGradient {
    const gradient = this.#byStep.get(step);
    assert(gradient !== undefined, `the gradient of step ${step} is set aside`);
    return gradient;
  }

  /** The replica has taken it in; without effect on a step that was not set aside. */
  release(step: number): void {
    const gradient = this.#byStep.get(step);
    if (gradient === undefined) return;
    this.#byStep.delete(step);
    // One buffer is kept: a slow device falls behind again and again.
    if (this.#free.length === 0) this.#free.push(gradient);
  }

  /** Forgets all but these steps. */
  keep(steps: readonly number[]): void {
    for (const step of this.#byStep.keys()) if (!steps.includes(step)) this.release(step);
  }
}
