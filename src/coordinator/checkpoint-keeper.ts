/**
 * The checkpoint that is being written and the ones that are served, with what the manifest says of
 * them. Carries out what the machine decided on checkpoints; decides nothing.
 */
import { join } from 'node:path';
import { assert, LockstepError, messageOf } from '../base/index.ts';
import {
  type CheckpointReader,
  type CheckpointWriter,
  checkpointName,
  openCheckpoint,
} from '../checkpoint/index.ts';
import { layoutOfKey } from './layout-key.ts';
import { now, type RunFolder } from './run-folder.ts';
import type { CommittedStep, CoordinatorEvent } from './state.ts';

/** Checkpoints that are served at once: whoever is half way through the last one may finish. */
const READERS_MAX = 2;

/** What is known of the state after a step. */
interface Progress {
  readonly step: number;
  /** Real target tokens of all steps so far. */
  readonly tokensSeen: number;
  /** Null at step 0 and after a step that was skipped. */
  readonly commit: { readonly gradientDigest: string; readonly parametersDigest: string } | null;
}

export class CheckpointKeeper {
  readonly #run: RunFolder;
  readonly #version: string;
  readonly #post: (event: CoordinatorEvent) => void;
  #writing: {
    readonly writer: CheckpointWriter;
    readonly attempt: number;
    readonly progress: Progress;
  } | null = null;
  #storing: Promise<void> = Promise.resolve();
  /** Stored checkpoints, newest first. */
  #readers: CheckpointReader[];
  /** By step: the newest stored checkpoint's and all since. */
  readonly #progress = new Map<number, Progress>();

  constructor(run: RunFolder, version: string, post: (event: CoordinatorEvent) => void) {
    this.#run = run;
    this.#version = version;
    this.#post = post;
    this.#readers = run.checkpoint === null ? [] : [run.checkpoint];
    this.#progress.set(run.startStep, {
      step: run.startStep,
      tokensSeen: run.checkpoint?.manifest.tokensSeen ?? 0,
      commit: run.checkpoint?.manifest.commit ?? null,
    });
    // A worker that has kept a newer state may take the run on from there.
    for (const [step, recorded] of run.recorded) {
      if (recorded.kind === 'committed') this.noteCommitted({ step, ...recorded });
      else this.noteSkipped(step);
    }
  }

  noteCommitted({
    step,
    tokens,
    gradientDigest,
    parametersDigest,
  }: Pick<CommittedStep, 'step' | 'tokens' | 'gradientDigest' | 'parametersDigest'>): void {
    const tokensSeen = this.#progressAt(step - 1).tokensSeen + tokens;
    this.#progress.set(step, { step, tokensSeen, commit: { gradientDigest, parametersDigest } });
  }

  noteSkipped(step: number): void {
    const { tokensSeen } = this.#progressAt(step - 1);
    this.#progress.set(step, { step, tokensSeen, commit: null });
  }

  writerOf(step: number, attempt: number): CheckpointWriter | null {
    const writing = this.#writing;
    return writing?.writer.step === step && writing.attempt === attempt ? writing.writer : null;
  }

  readerOf(step: number): CheckpointReader | null {
    return this.#readers.find((reader) => reader.step === step) ?? null;
  }

  async begin(step: number, attempt: number, layoutKey: string): Promise<void> {
    try {
      const writer = await this.#run.store.begin({ step, layout: layoutOfKey(layoutKey) });
      this.#writing = { writer, attempt, progress: this.#progressAt(step) };
    } catch (error) {
      this.#post(checkpointFailure(step, error));
    }
  }

  async abort(): Promise<void> {
    await this.#writing?.writer.abort();
    this.#writing = null;
  }

  /** Starts to verify and store what was written; an event tells of the end. */
  store(step: number): void {
    this.#storing = this.#store(step);
  }

  /** Resolves when nothing is being stored. */
  settled(): Promise<void> {
    return this.#storing;
  }

  async close(): Promise<void> {
    await this.#storing;
    await this.#writing?.writer.abort();
    for (const reader of this.#readers) await reader.close();
  }

  #progressAt(step: number): Progress {
    const progress = this.#progress.get(step);
    assert(progress !== undefined, `the progress at step ${step} is known`);
    return progress;
  }

  async #store(step: number): Promise<void> {
    const run = this.#run;
    const writing = this.#writing;
    assert(
      writing !== null && writing.writer.step === step,
      `the checkpoint of step ${step} is being written`,
    );
    try {
      const manifest = await writing.writer.commit({
        runId: run.id,
        commit: writing.progress.commit,
        bitDeciding: { ...run.bitDeciding },
        fingerprint: run.fingerprint,
        datasetSha256: run.datasetSha256,
        tokensSeen: writing.progress.tokensSeen,
        createdAt: now(),
        lockstepVersion: this.#version,
      });
      const { weightsSha256 } = manifest;
      await run.log.append({ kind: 'checkpointed', step, weightsSha256, time: now() });
      const reader = await openCheckpoint(join(run.checkpointsDir, checkpointName(step)));
      const retired = this.#readers.splice(READERS_MAX - 1);
      this.#readers.unshift(reader);
      for (const old of retired) await old.close();
      for (const known of this.#progress.keys()) if (known < step) this.#progress.delete(known);
      this.#writing = null;
      this.#post({ type: 'checkpointStored', step });
    } catch (error) {
      this.#writing = null;
      this.#post(checkpointFailure(step, error));
    }
  }
}

export function checkpointFailure(step: number, error: unknown): CoordinatorEvent {
  const code = error instanceof LockstepError ? error.code : 'DISK_FULL';
  return { type: 'checkpointFailed', step, code, reason: messageOf(error) };
}
