/**
 * A run's folder: `commits.log`, `checkpoints/`, `tokenizer.json`. Opening it decides where the run
 * starts: anew, or from its newest valid checkpoint. A run from given weights begins with a checkpoint of
 * step 0, and never draws parameters from its seed.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { asRunId, LockstepError, type RunId } from '../base/index.ts';
import { type CheckpointReader, CheckpointStore, findNewestValid } from '../checkpoint/index.ts';
import {
  type BitDeciding,
  bitDecidingPart,
  fingerprintOf,
  listDifferences,
  type RunConfig,
  runConfigSchema,
} from '../config/index.ts';
import { CommitLog, readHistory } from '../history/index.ts';
import { writeWhole } from '../storage/index.ts';
import { type StartWeights, storeStart } from './start-weights.ts';
import type { RecordedStep } from './state.ts';

export interface RunFolder {
  readonly id: RunId;
  readonly dir: string;
  readonly checkpointsDir: string;
  readonly config: RunConfig;
  readonly datasetSha256: string;
  readonly bitDeciding: BitDeciding;
  readonly fingerprint: string;
  readonly log: CommitLog;
  readonly store: CheckpointStore;
  /** What the run starts from; null for parameters drawn from the seed. */
  readonly checkpoint: CheckpointReader | null;
  readonly startStep: number;
  /** Commits after `startStep`, which the run will repeat and must find equal. */
  readonly recorded: ReadonlyMap<number, RecordedStep>;
  /** Who computed the newest commit after `startStep`: they may still hold its result. */
  readonly lastWorkers: readonly string[];
  /** Lines for the user: torn records, checkpoints passed over. */
  readonly notices: readonly string[];
}

export const CHECKPOINTS_FOLDER = 'checkpoints';
export const COMMIT_LOG_FILE = 'commits.log';
const TOKENIZER_FILE = 'tokenizer.json';

export interface OpenRunOptions {
  readonly dir: string;
  readonly config: RunConfig;
  readonly datasetSha256: string;
  /** The data set's `tokenizer.json`, kept with the run, so that it can generate and be exported on its own. */
  readonly tokenizerJson: string;
  readonly resume: boolean;
  /** What `config.start` names; needed when the run is new, or when no checkpoint of it is left. */
  readonly start?: StartWeights | null;
}

/**
 * Opens a run for writing; the caller closes its log and checkpoint (the coordinator does).
 * Throws CONFIG_INVALID when the folder holds committed steps and `resume` is not asked for, CONFIG_MISMATCH
 * listing what differs, HISTORY_CORRUPT, CHECKPOINT_INVALID, ADDRESS_IN_USE when it is open elsewhere.
 */
export async function openRun(options: OpenRunOptions): Promise<RunFolder> {
  const { dir, datasetSha256, tokenizerJson, resume } = options;
  const log = await CommitLog.open(join(dir, COMMIT_LOG_FILE));
  try {
    const config = { ...options.config };
    config.optimizer = { ...config.optimizer, decaySteps: config.optimizer.decaySteps ?? config.steps };
    const bitDeciding = bitDecidingPart(config, datasetSha256);
    const fingerprint = fingerprintOf(bitDeciding);
    const { opened } = log.history;
    const notices = log.note === null ? [] : [log.note];
    const checkpointsDir = join(dir, CHECKPOINTS_FOLDER);
    // Before any checkpoint is looked for: opening mends what a dead process left half done.
    const store = await CheckpointStore.open(checkpointsDir, config.checkpoint);
    for (const step of store.cutShortSteps) {
      notices.push(
        `checkpoint of step ${step} was cut short when the run ended; what there was of it is removed`,
      );
    }
    const common = { dir, checkpointsDir, config, datasetSha256, bitDeciding, fingerprint, log, store };
    const begin = async (id: string): Promise<CheckpointReader | null> => {
      const { start: weights = null } = options;
      if (config.start === null) return null;
      if (weights === null) throw noStart(dir);
      return storeStart(store, weights, config.start.weightsSha256, {
        ...{ runId: id, bitDeciding: { ...bitDeciding }, fingerprint, datasetSha256 },
        createdAt: now(),
      });
    };
    if (opened === null) {
      const id = asRunId(randomBytes(6).toString('hex'));
      // Before the run is on record: a recorded run from given weights has had them.
      const checkpoint = await begin(id);
      await writeWhole(join(dir, TOKENIZER_FILE), tokenizerJson);
      await log.append({ kind: 'opened', runId: id, fingerprint, config, datasetSha256, time: now() });
      if (checkpoint !== null) await announce(log, checkpoint);
      return { ...common, id, checkpoint, startStep: 0, recorded: new Map(), lastWorkers: [], notices };
    }
    // A run that never committed a step has nothing to lose: starting it again is starting it.
    if (!resume && log.history.lastStep > 0) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `${dir} holds a run already (step ${log.history.lastStep}): add --resume to go on with it, or name another folder with --run`,
      );
    }
    refuseOtherConfig(dir, opened.config, opened.datasetSha256, bitDeciding);
    if (runTokenizerFile(dir) === null) await writeWhole(join(dir, TOKENIZER_FILE), tokenizerJson);
    const { checkpoint: newest, rejected } = await findNewestValid(checkpointsDir);
    const startStep = newest?.step ?? 0;
    for (const { step, reason } of rejected) notices.push(passedOver(step, reason, startStep));
    const checkpoint = newest ?? (await begin(opened.runId));
    if (newest === null && checkpoint !== null) await announce(log, checkpoint);
    await log.append({
      kind: 'resumed',
      fromStep: startStep,
      reason: resume ? 'resume' : 'start',
      time: now(),
    });
    const after = await recordedAfter(log, startStep);
    return { ...common, id: asRunId(opened.runId), checkpoint, startStep, ...after, notices };
  } catch (error) {
    await log.close();
    throw error;
  }
}

/** The tokenizer that a run keeps; null in a run that an older version started. */
export function runTokenizerFile(dir: string): string | null {
  const path = join(dir, TOKENIZER_FILE);
  return existsSync(path) ? path : null;
}

/** The configuration a run was started with; null when the folder holds no run. */
export async function savedConfig(dir: string): Promise<RunConfig | null> {
  const path = join(dir, COMMIT_LOG_FILE);
  if (!existsSync(path)) return null;
  for await (const record of readHistory(path)) {
    if (record.kind === 'opened') return runConfigSchema.parse(record.config);
  }
  return null;
}

function refuseOtherConfig(dir: string, saved: unknown, savedDataset: string, ours: BitDeciding): void {
  const theirs = bitDecidingPart(runConfigSchema.parse(saved), savedDataset);
  const differences = listDifferences(theirs, ours);
  if (differences.length === 0) return;
  throw new LockstepError(
    'CONFIG_MISMATCH',
    `${dir} was started with another configuration (${differences.join('; ')}): resume without these changes, or start anew in another folder`,
  );
}

function noStart(dir: string): LockstepError {
  return new LockstepError(
    'CHECKPOINT_INVALID',
    `${dir}: no valid checkpoint is there, and this run starts from given weights, never from its seed: name them with --from, or start anew in another folder`,
  );
}

async function announce(log: CommitLog, { step, manifest }: CheckpointReader): Promise<void> {
  await log.append({ kind: 'checkpointed', step, weightsSha256: manifest.weightsSha256, time: now() });
}

function passedOver(step: number, reason: string, startStep: number): string {
  const instead =
    startStep === 0 ? 'the run starts again from step 0' : `the one of step ${startStep} is used`;
  return `checkpoint of step ${step} passed over: ${reason}; ${instead}`;
}

async function recordedAfter(
  log: CommitLog,
  startStep: number,
): Promise<Pick<RunFolder, 'recorded' | 'lastWorkers'>> {
  const recorded = new Map<number, RecordedStep>();
  let lastWorkers: string[] = [];
  for (let step = startStep + 1; step <= log.history.lastStep; step += 1) {
    const record = await log.stepRecord(step);
    if (record === null) break;
    if (record.kind === 'skipped') {
      recorded.set(step, { kind: 'skipped' });
      continue;
    }
    const { kind, gradientDigest, parametersDigest, tokens, slots } = record;
    recorded.set(step, { kind, gradientDigest, parametersDigest, tokens });
    lastWorkers = [...new Set(slots.map(({ worker }) => worker))];
  }
  return { recorded, lastWorkers };
}

/** The time as the log and checkpoints record it: ISO 8601 in UTC. */
export function now(): string {
  return new Date().toISOString();
}
