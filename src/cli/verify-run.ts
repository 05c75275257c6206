/**
 * Proves a run from its folder: its commit log, then every checkpoint against it, oldest first, byte
 * by byte. Changes nothing and takes no lock, so that a run that is going on may be verified.
 *
 * Checkpoints are listed before the log is read: a step is committed before its checkpoint appears,
 * so whatever was listed must be in the log.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LockstepError, systemCodeOf } from '../base/index.ts';
import { type CheckpointReader, FLOAT_BYTES, listCheckpoints, openCheckpoint } from '../checkpoint/index.ts';
import { CHECKPOINTS_FOLDER, COMMIT_LOG_FILE, learningRateAt } from '../coordinator/index.ts';
import { type VerifiedLog, verifyClaims, verifyLog } from '../history/index.ts';
import { BLOCK_FLOATS, combineDigests, createKernels, type Kernels, numBlocks } from '../kernels/index.ts';

/** Read and digested at a time: 1 MiB, whole blocks. */
const PIECE_FLOATS = 64 * BLOCK_FLOATS;
/** A run stores the checkpoint of one step again only when it comes past it again: never so often in one look. */
const ATTEMPTS_MAX = 3;

export interface VerifiedCheckpoint {
  readonly step: number;
  readonly weightsSha256: string;
  /** Of the parameters, in the way of the votes. */
  readonly parametersDigest: string;
  /** Whether the commit of the next step vouches for `parametersDigest`; it may not be there yet. */
  readonly chained: boolean;
}

export interface VerifiedRun {
  readonly log: VerifiedLog;
  /** Oldest first. */
  readonly checkpoints: readonly VerifiedCheckpoint[];
  /** One line each: what was seen and is no error. */
  readonly notes: readonly string[];
}

/**
 * Throws what is wrong first: HISTORY_CORRUPT or CHECKPOINT_INVALID naming file, line or step, what
 * is recorded and what was expected; DATA_MISSING when `dir` holds no run.
 */
export async function verifyRun(dir: string): Promise<VerifiedRun> {
  const listings = await listCheckpoints(join(dir, CHECKPOINTS_FOLDER));
  const checkpointSteps = new Set(listings.map(({ step }) => step));
  const log = await verifyLog({ path: join(dir, COMMIT_LOG_FILE), learningRateAt, checkpointSteps });
  const notes = notesOn(log);
  const checkpoints: VerifiedCheckpoint[] = [];
  if (listings.length > 0) {
    const kernels = createKernels();
    for (const listing of listings) {
      const checkpoint = await verifyCheckpoint(listing.dir, log, kernels);
      if (checkpoint === null) {
        notes.push(`the checkpoint of step ${listing.step} was removed by the run before it could be read`);
        continue;
      }
      checkpoints.push(checkpoint);
      if (!log.announced.has(listing.step)) {
        notes.push(`the checkpoint of step ${listing.step} is not announced in the log, or not yet`);
      }
    }
  }
  const { lastCheckpoint } = log.history;
  if (lastCheckpoint !== null && !checkpointSteps.has(lastCheckpoint.step)) {
    notes.push(
      `the newest checkpoint that the log announces, of step ${lastCheckpoint.step}, was not in the folder`,
    );
  }
  return { log, checkpoints, notes };
}

function notesOn({ path, history, tail }: VerifiedLog): string[] {
  const notes: string[] = [];
  if (history.opened === null) notes.push(`${path} holds no record yet`);
  if (tail !== null) {
    notes.push(
      `${path}: its last ${tail.length} bytes are no whole record (line ${tail.line}, byte ${tail.offset}: ` +
        `${tail.reason}): one that is being written now, or that a crash cut short; --resume drops it`,
    );
  }
  return notes;
}

/** Null when a run that goes on removed the checkpoint meanwhile. */
async function verifyCheckpoint(
  dir: string,
  log: VerifiedLog,
  kernels: Kernels,
): Promise<VerifiedCheckpoint | null> {
  for (let attempt = 1; ; attempt += 1) {
    const before = await folderId(dir);
    if (before === null) return null;
    try {
      return await verifyContent(dir, log, kernels);
    } catch (error) {
      const isInvalid = error instanceof LockstepError && error.code === 'CHECKPOINT_INVALID';
      // Removed, or stored anew by a run that came past the step again: what was read was half of each.
      if (!isInvalid || attempt === ATTEMPTS_MAX || (await folderId(dir)) === before) throw error;
    }
  }
}

async function verifyContent(dir: string, log: VerifiedLog, kernels: Kernels): Promise<VerifiedCheckpoint> {
  const reader = await openCheckpoint(dir);
  try {
    await reader.verify();
    const parametersDigest = await digestParameters(reader, kernels);
    const { step, weightsSha256 } = reader.manifest;
    verifyClaims(log, { ...reader.manifest, dir, parametersDigest });
    return { step, weightsSha256, parametersDigest, chained: log.nextCommits.has(step) };
  } finally {
    await reader.close();
  }
}

/** What a replica with these parameters puts into its vote. */
async function digestParameters(reader: CheckpointReader, kernels: Kernels): Promise<string> {
  const blockDigests = new BigUint64Array(numBlocks(reader.size));
  const piece = new Float32Array(Math.min(PIECE_FLOATS, reader.size));
  for (let offset = 0; offset < reader.size; offset += piece.length) {
    const floats = piece.subarray(0, Math.min(piece.length, reader.size - offset));
    await reader.read('parameters', offset, new Uint8Array(floats.buffer, 0, floats.length * FLOAT_BYTES));
    kernels.digestBlocks(floats, blockDigests, offset / BLOCK_FLOATS);
  }
  return combineDigests(blockDigests);
}

/** Another one for a folder that took the place of this; null when there is none. */
async function folderId(dir: string): Promise<number | null> {
  try {
    return (await stat(dir)).ino;
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return null;
    throw error;
  }
}
