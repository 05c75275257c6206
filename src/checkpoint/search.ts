/**
 * Finding checkpoints in a run's `checkpoints/` folder. Reads only, and needs no hold on the run:
 * one that is running may be looked at.
 */
import { join } from 'node:path';
import { LockstepError, messageOf } from '../base/index.ts';
import type { CheckpointManifest } from './manifest.ts';
import { type CheckpointReader, openCheckpoint } from './reader.ts';
import { checkpointName } from './sections.ts';
import { stepsIn } from './store.ts';

export type CheckpointListing =
  | {
      readonly state: 'complete';
      readonly step: number;
      readonly dir: string;
      readonly manifest: CheckpointManifest;
    }
  | { readonly state: 'invalid'; readonly step: number; readonly dir: string; readonly reason: string };

/** Every checkpoint, oldest first, judged by manifest, sizes and headers; the data is not read. */
export async function listCheckpoints(checkpointsDir: string): Promise<CheckpointListing[]> {
  const listings: CheckpointListing[] = [];
  for (const step of await stepsIn(checkpointsDir)) {
    const dir = join(checkpointsDir, checkpointName(step));
    try {
      const reader = await openCheckpoint(dir);
      await reader.close();
      listings.push({ state: 'complete', step, dir, manifest: reader.manifest });
    } catch (error) {
      listings.push({ state: 'invalid', step, dir, reason: reasonOf(error) });
    }
  }
  return listings;
}

export interface RejectedCheckpoint {
  readonly step: number;
  /** One line: what is wrong with it. */
  readonly reason: string;
}

export interface NewestValid {
  /** Open, every byte verified; the caller closes it. Null when there is none. */
  readonly checkpoint: CheckpointReader | null;
  /** The newer ones that were passed over, newest first: to be told to the user. */
  readonly rejected: readonly RejectedCheckpoint[];
}

/** The newest checkpoint that passes full verification. */
export async function findNewestValid(checkpointsDir: string): Promise<NewestValid> {
  const rejected: RejectedCheckpoint[] = [];
  for (const step of (await stepsIn(checkpointsDir)).reverse()) {
    try {
      return { checkpoint: await openVerified(join(checkpointsDir, checkpointName(step))), rejected };
    } catch (error) {
      rejected.push({ step, reason: reasonOf(error) });
    }
  }
  return { checkpoint: null, rejected };
}

async function openVerified(dir: string): Promise<CheckpointReader> {
  const reader = await openCheckpoint(dir);
  try {
    await reader.verify();
    return reader;
  } catch (error) {
    await reader.close();
    throw error;
  }
}

/** A damaged checkpoint is no reason to stop looking; a disk that cannot be read or a defect is. */
function reasonOf(error: unknown): string {
  if (error instanceof LockstepError && error.code === 'CHECKPOINT_INVALID') return messageOf(error);
  throw error;
}
