/**
 * The coordinator's disk: a commit log and checkpoints. What was written but not synced is there for
 * whoever reads it, and may be gone after a crash: any number of the newest records, and the contents
 * of a checkpoint whose name may have survived them.
 */
import { assert, type PhiloxRng } from '../base/index.ts';
import type { RecordedStep } from '../coordinator/index.ts';
import type { Parts } from './parts.ts';

export interface LoggedStep {
  readonly step: number;
  readonly outcome: RecordedStep;
  readonly workers: readonly string[];
}

export class SimulatedDisk {
  readonly log: LoggedStep[] = [];
  readonly #synced: Parts['synced'];
  #numSyncedRecords = 0;
  #checkpoint = { step: 0, synced: true };
  /** The newest checkpoint whose contents cannot be lost any more; it stays until a newer one is. */
  #syncedCheckpoint = 0;

  constructor(synced: Parts['synced']) {
    this.#synced = synced;
  }

  /** Step of the newest checkpoint that can be read; 0 for the initial parameters. */
  get storedStep(): number {
    return this.#checkpoint.step;
  }

  append(record: LoggedStep): void {
    assert(record.step === this.log.length + 1, `step ${record.step} is appended after ${this.log.length}`);
    this.log.push(record);
    if (this.#synced.log) this.#numSyncedRecords = this.log.length;
  }

  store(step: number): void {
    this.#checkpoint = { step, synced: this.#synced.checkpoint };
    if (this.#checkpoint.synced) this.#syncedCheckpoint = step;
  }

  /** The host goes down: any of what was not synced is lost. */
  crash(rng: PhiloxRng): void {
    const unsynced = this.log.length - this.#numSyncedRecords;
    this.log.length -= rng.nextInt(unsynced + 1);
    if (!this.#checkpoint.synced && rng.nextInt(2) === 0) {
      this.#checkpoint = { step: this.#syncedCheckpoint, synced: true };
    }
    // What a reader has found after a crash is on the platter.
    this.#numSyncedRecords = this.log.length;
  }
}
