/**
 * The folder of a preparation under way, `.prepare` within the data set's: the plan, and a part for each unit and
 * phase. A part bears its name only when it is whole and on disk, so what is there is what is done: any
 * process may do a part, again or at the same time as another, and nothing but these files says how far we are.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LockstepError, messageOf } from '../../base/index.ts';
import { removeUnfinished, StagedFile, writing } from '../staged-folder.ts';
import { type Plan, planSchema } from './plan.ts';

export const WORK_FOLDER = '.prepare';
const PLAN_FILE = 'plan.json';

export const PART_KINDS = ['raw', 'words', 'clean', 'encoded'] as const;
/**
 * `raw`: a batch of articles as read; `words`: counts for tokenizer training; `clean`: documents; `encoded`:
 * documents as token ids.
 */
export type PartKind = (typeof PART_KINDS)[number];

/** A unit of an input, by their numbers. */
export interface UnitRef {
  readonly input: number;
  readonly unit: number;
}

const partName = (kind: PartKind, { input, unit }: UnitRef): string =>
  `${kind}-${String(input).padStart(4, '0')}-${String(unit).padStart(7, '0')}`;

export class WorkFolder {
  readonly directory: string;

  /** Of the data set in `outDir`; creates nothing. */
  constructor(outDir: string) {
    this.directory = join(outDir, WORK_FOLDER);
  }

  create(): void {
    writing(this.directory, () => mkdirSync(this.directory, { recursive: true }));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** The plan that lies here; null when there is none, or none that this version can go on with. */
  plan(): Plan | null {
    const text = this.read(PLAN_FILE);
    if (text === null) return null;
    try {
      return planSchema.parse(JSON.parse(text));
    } catch {
      return null;
    }
  }

  /** Another whenever the plan is written anew; null when it is gone. */
  planStamp(): string | null {
    try {
      const { ino, mtimeMs } = statSync(join(this.directory, PLAN_FILE));
      return `${ino} ${mtimeMs}`;
    } catch {
      return null;
    }
  }

  writePlan(plan: Plan): void {
    this.write(PLAN_FILE, JSON.stringify(plan));
  }

  partPath(kind: PartKind, ref: UnitRef): string {
    return join(this.directory, partName(kind, ref));
  }

  hasPart(kind: PartKind, ref: UnitRef): boolean {
    return existsSync(this.partPath(kind, ref));
  }

  removePart(kind: PartKind, ref: UnitRef): void {
    rmSync(this.partPath(kind, ref), { force: true });
  }

  createPart(kind: PartKind, ref: UnitRef): PartFile {
    return new PartFile(this.directory, partName(kind, ref));
  }

  /** A small file's text, or null where there is none. */
  read(name: string): string | null {
    const path = join(this.directory, name);
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      if (!existsSync(path)) return null;
      throw new LockstepError(
        'DATA_MISSING',
        `${path} cannot be read (${messageOf(cause)}): check the disk`,
        {
          cause,
        },
      );
    }
  }

  /** Writes a small file whole or not at all. */
  write(name: string, text: string): void {
    const file = new PartFile(this.directory, name);
    try {
      file.append(Buffer.from(text));
      file.commit();
    } finally {
      file.abort();
    }
  }

  /** Deletes what attempts at one unit that were killed have left. */
  removeUnfinished(ref: UnitRef): void {
    const beginnings = PART_KINDS.map((kind) => `${partName(kind, ref)}.`);
    removeUnfinished(this.directory, (name) => beginnings.some((start) => name.startsWith(start)));
  }
}

/** One attempt at a file, under a name of its own until it is whole. */
export class PartFile {
  readonly #file: StagedFile;
  readonly #path: string;
  #committed = false;

  constructor(directory: string, name: string) {
    this.#path = join(directory, name);
    this.#file = new StagedFile(directory, `${name}.${randomBytes(6).toString('hex')}`);
  }

  append(bytes: Uint8Array): void {
    this.#file.append(bytes);
  }

  /** On disk and under its name, in place of an equal one that another attempt has made. */
  commit(): void {
    this.#file.finish();
    writing(this.#path, () => renameSync(this.#file.path, this.#path));
    this.#committed = true;
  }

  /** Deletes what is not committed. Idempotent. */
  abort(): void {
    if (this.#committed) return;
    this.#file.close();
    rmSync(this.#file.path, { force: true });
  }
}
