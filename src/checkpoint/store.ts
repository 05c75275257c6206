/**
 * The writing side of a run's `checkpoints/` folder. A checkpoint appears there by one rename of a
 * whole, synced folder; one that is to go is renamed away first. So under its name a checkpoint is
 * complete at every moment, whenever the process dies, short of damage to the disk itself.
 *
 *   .writing-step-00000012-x7Qa3f   not finished; removed when the store is opened
 *   .replaced-step-00000012         in the way of its own successor; put back if that never came
 *   .removed-step-00000006          no longer kept; removed
 */
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { assert, type ParameterLayout, systemCodeOf } from '../base/index.ts';
import type { CheckpointConfig } from '../config/index.ts';
import { syncDirectory, writing } from '../storage/index.ts';
import { obsoleteSteps } from './retention.ts';
import { checkpointName, stepOfName } from './sections.ts';
import { CheckpointWriter } from './writer.ts';

const WRITING = '.writing-';
const REPLACED = '.replaced-';
const REMOVED = '.removed-';

export class CheckpointStore {
  readonly dir: string;
  /** Steps whose checkpoint an earlier process began and did not finish; what there was is removed. */
  readonly cutShortSteps: readonly number[];
  readonly #config: CheckpointConfig;
  /** Publishing renames and removes, one checkpoint at a time. */
  #publishing: Promise<void> = Promise.resolve();

  private constructor(dir: string, config: CheckpointConfig, cutShortSteps: readonly number[]) {
    this.dir = dir;
    this.#config = config;
    this.cutShortSteps = cutShortSteps;
  }

  /**
   * Opens the folder, makes it if need be, and clears what a dead process left. Call it only while
   * holding the run's commit log: that admits one process, so that no other can be writing here.
   * Throws DISK_FULL.
   */
  static async open(dir: string, config: CheckpointConfig): Promise<CheckpointStore> {
    return writing(dir, async () => {
      const created = await mkdir(dir, { recursive: true });
      if (created !== undefined) await syncDirectory(dirname(dir));
      const cutShortSteps = await recover(dir);
      return new CheckpointStore(dir, config, cutShortSteps);
    });
  }

  /** Starts the checkpoint of a step. Checkpoints of different steps may be written side by side. */
  async begin(options: { step: number; layout: ParameterLayout }): Promise<CheckpointWriter> {
    const { step, layout } = options;
    assert(Number.isSafeInteger(step) && step >= 0, `step ${step} is not a whole number`);
    const prefix = join(this.dir, `${WRITING}${checkpointName(step)}-`);
    const temporary = await writing(this.dir, () => mkdtemp(prefix));
    return CheckpointWriter.create(step, temporary, layout, (finished) => {
      const published = this.#publishing.then(() => this.#publish(step, finished));
      // A failure is the writer's to report; the next checkpoint is published all the same.
      this.#publishing = published.catch(() => {});
      return published;
    });
  }

  async #publish(step: number, finished: string): Promise<void> {
    const name = checkpointName(step);
    const final = join(this.dir, name);
    await writing(final, async () => {
      // A resumed run comes past steps that have a checkpoint: one that failed verification, perhaps.
      const replaced = join(this.dir, `${REPLACED}${name}`);
      if (await renameIfThere(final, replaced)) await syncDirectory(this.dir);
      await rename(finished, final);
      await syncDirectory(this.dir);
      await remove(replaced);
    });
    await writing(this.dir, () => this.#removeObsolete(step));
  }

  async #removeObsolete(committed: number): Promise<void> {
    for (const step of obsoleteSteps(await stepsIn(this.dir), committed, this.#config)) {
      const name = checkpointName(step);
      const removed = join(this.dir, `${REMOVED}${name}`);
      await rename(join(this.dir, name), removed);
      await remove(removed);
    }
  }
}

/** Steps that have a folder under their name, ascending; none when the folder itself is not there. */
export async function stepsIn(dir: string): Promise<number[]> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return [];
    throw error;
  }
  return names
    .map(stepOfName)
    .filter((step) => step !== null)
    .sort((a, b) => a - b);
}

async function recover(dir: string): Promise<number[]> {
  const names = await readdir(dir);
  const cutShort: number[] = [];
  for (const name of names) {
    const path = join(dir, name);
    if (name.startsWith(WRITING)) {
      // mkdtemp has put a dash and six characters behind the checkpoint's name.
      const step = stepOfName(name.slice(WRITING.length, -7));
      if (step !== null) cutShort.push(step);
      await remove(path);
    } else if (name.startsWith(REMOVED)) {
      await remove(path);
    } else if (name.startsWith(REPLACED)) {
      const final = name.slice(REPLACED.length);
      if (names.includes(final)) await remove(path);
      else await rename(path, join(dir, final));
    }
  }
  await syncDirectory(dir);
  return cutShort.sort((a, b) => a - b);
}

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}
