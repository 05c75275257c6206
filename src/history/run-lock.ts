/**
 * One process per run: whoever opens the commit log puts a lock file of its own beside it,
 * `<log>.lock.<random>`, that names the process, and then looks for others.
 *
 * Of two that come at once the later to put its file there sees the other's, so never do both go on
 * (both may be refused, which is safe). Names are never used twice: so a dead process's file can be
 * removed at any time without hitting a live one's, which a single lock file does not allow.
 */
import { randomUUID } from 'node:crypto';
import { open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LockstepError, systemCodeOf } from '../base/index.ts';
import { livenessOf, type ProcessIdentity, processIdentitySchema, thisProcess } from './process-identity.ts';

export class RunLock {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Throws RUN_IN_USE, naming file and holder, while another process has the log open. */
  static async acquire(logPath: string): Promise<RunLock> {
    const lock = new RunLock(`${logPath}.lock.${randomUUID()}`);
    const draft = `${logPath}.draft.${randomUUID()}`;
    try {
      await writeDraft(draft, JSON.stringify(await thisProcess()));
      // The file appears with its content, so that no other finds it half written.
      await rename(draft, lock.#path);
      await lock.#refuseOthers(logPath);
      return lock;
    } catch (error) {
      await rm(draft, { force: true });
      await lock.release();
      throw error;
    }
  }

  /** Idempotent. */
  async release(): Promise<void> {
    await rm(this.#path, { force: true });
  }

  async #refuseOthers(logPath: string): Promise<void> {
    const dir = dirname(logPath);
    for (const name of await readdir(dir)) {
      const path = join(dir, name);
      if (!name.startsWith(`${basename(logPath)}.lock.`) || path === this.#path) continue;
      const content = await readOrNull(path);
      if (content === null) continue;
      const holder = parseHolder(content);
      if (holder === null) throw held(path, 'a process that it does not name (the file is damaged)');
      if ((await livenessOf(holder)) !== 'dead') throw held(path, `process ${holder.pid} on ${holder.host}`);
      await rm(path, { force: true });
    }
  }
}

/** Synced, so that a power cut cannot leave a lock that names nobody. */
async function writeDraft(path: string, content: string): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function parseHolder(content: string): ProcessIdentity | null {
  try {
    return processIdentitySchema.parse(JSON.parse(content));
  } catch {
    // Damaged in whatever way: the caller says so.
    return null;
  }
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return null;
    throw error;
  }
}

function held(path: string, holder: string): LockstepError {
  return new LockstepError(
    'RUN_IN_USE',
    `${path}: this run is open in ${holder}; stop that one first, or delete the file if it is certainly gone`,
    { context: { path } },
  );
}
