/** A run's checkpoints as the dashboard lists them, and as it hands their files out. Reads only. */
import { join } from 'node:path';
import { LockstepError, messageOf } from '../../base/index.ts';
import {
  type CheckpointListing,
  checkpointName,
  listCheckpoints,
  openCheckpoint,
} from '../../checkpoint/index.ts';
import { CHECKPOINTS_FOLDER } from '../../coordinator/index.ts';
import type { CheckpointsView, CheckpointView } from '../contract.ts';

export const CHECKPOINT_FILES = ['model.safetensors', 'optimizer.safetensors', 'manifest.json'] as const;

export class Checkpoints {
  readonly #dir: string;
  /** Manifest checksums of checkpoints whose every byte was hashed by this process. */
  readonly #verified = new Set<string>();
  #verifying: Promise<unknown> = Promise.resolve();

  constructor(runDir: string) {
    this.#dir = join(runDir, CHECKPOINTS_FOLDER);
  }

  /** Newest first. */
  async list(): Promise<CheckpointsView> {
    const listings = await listCheckpoints(this.#dir);
    return { checkpoints: listings.reverse().map((listing) => this.#viewOf(listing)) };
  }

  /** Hashes every byte, one checkpoint at a time; null when there is none of this step. */
  async verify(step: number): Promise<CheckpointView | null> {
    const verified = this.#verifying.then(() => this.#verify(step));
    this.#verifying = verified.catch(() => {});
    return verified;
  }

  pathOf(step: number, file: (typeof CHECKPOINT_FILES)[number]): string {
    return join(this.#dir, checkpointName(step), file);
  }

  async #verify(step: number): Promise<CheckpointView | null> {
    const found = (await listCheckpoints(this.#dir)).find((listing) => listing.step === step);
    if (found === undefined) return null;
    if (found.state === 'invalid') return this.#viewOf(found);
    try {
      const reader = await openCheckpoint(found.dir);
      try {
        await reader.verify();
      } finally {
        await reader.close();
      }
      this.#verified.add(found.manifest.sha256);
      return this.#viewOf(found);
    } catch (error) {
      if (!(error instanceof LockstepError)) throw error;
      this.#verified.delete(found.manifest.sha256);
      return { ...this.#viewOf(found), state: 'invalid', reason: messageOf(error) };
    }
  }

  #viewOf(listing: CheckpointListing): CheckpointView {
    const { step } = listing;
    if (listing.state === 'invalid') {
      const unknown = { bytes: null, weightsSha256: null, createdAt: null, files: [] };
      return { step, state: 'invalid', reason: listing.reason, ...unknown };
    }
    const { manifest } = listing;
    return {
      step,
      state: this.#verified.has(manifest.sha256) ? 'verified' : 'complete',
      reason: null,
      bytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
      weightsSha256: manifest.weightsSha256,
      createdAt: Date.parse(manifest.createdAt),
      files: manifest.files.map(({ name, bytes, sha256 }) => ({ name, bytes, sha256 })),
    };
  }
}
