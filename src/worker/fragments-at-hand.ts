/**
 * The fragments that the comm thread can read, and the reduction that waits for those which are still on the device: the
 * compute thread is then at a slot that was taken back, and brings them home at its end.
 */
import type { SharedFragment } from './thread-messages.ts';

export class FragmentsAtHand {
  #fragments: readonly SharedFragment[] = [];
  #areOnDevice = false;
  #begin: ((fragments: readonly SharedFragment[]) => void) | null = null;

  /** Whether none are on the device. */
  get areHome(): boolean {
    return !this.#areOnDevice;
  }

  /** All there are in memory, as the compute thread says, and whether more are on the device. */
  take(fragments: readonly SharedFragment[], areOnDevice: boolean): void {
    this.#fragments = fragments;
    this.#areOnDevice = areOnDevice;
    this.#beginIfHome();
  }

  /** Calls `begin` once all fragments are in memory, at once if they are; in the place of what waited before. */
  whenHome(begin: (fragments: readonly SharedFragment[]) => void): void {
    this.#begin = begin;
    this.#beginIfHome();
  }

  /** Nothing waits any more. */
  cancel(): void {
    this.#begin = null;
  }

  /** The step is over; what is on the device still comes, for nobody. */
  forget(): void {
    this.cancel();
    this.#fragments = [];
  }

  #beginIfHome(): void {
    const begin = this.#begin;
    if (this.#areOnDevice || begin === null) return;
    this.#begin = null;
    begin(this.#fragments);
  }
}
