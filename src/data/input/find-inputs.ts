/**
 * Which files an input on the command line stands for: itself, all inputs within a folder, or what a glob matches
 * (`*`, `?`, `[a-z]`, and `**` for any folders). Order is by code units of the path, the same on every machine.
 */
import { readdirSync, statSync } from 'node:fs';
import { join, sep } from 'node:path';
import { LockstepError, messageOf } from '../../base/index.ts';
import { formatOfName } from './format.ts';

/** WikiExtractor's files have no extension. */
const WIKI_EXTRACTOR_FILE = /^wiki_\d+(?:\.bz2)?$/;
/** What lies beside dumps, and is none. */
const COMPANION_FILE = /-multistream-index\d*\.txt|(?:sha1|md5)sums/i;

/**
 * The files that `name` stands for. A name without glob signs that is no folder is returned as it is, there or not.
 * Throws DATA_MISSING when a folder or a glob yields no file.
 */
export function findInputs(name: string): string[] {
  const isThere = statSync(name, { throwIfNoEntry: false });
  if (isThere?.isDirectory() === true) return inputsWithin(name);
  if (isThere !== undefined || !/[*?[]/.test(name)) return [name];
  const pattern = globPattern(name);
  const found = filesBelow(fixedFolder(name)).filter((path) => pattern.test(path));
  if (found.length === 0) {
    throw new LockstepError('DATA_MISSING', `${name} matches no file: check the pattern and the folder`);
  }
  return found.sort(byCodeUnits);
}

function inputsWithin(folder: string): string[] {
  const found = filesBelow(folder).filter((path) => {
    const name = path.slice(path.lastIndexOf(sep) + 1);
    if (name.startsWith('.') || COMPANION_FILE.test(name)) return false;
    return formatOfName(name) !== null || WIKI_EXTRACTOR_FILE.test(name);
  });
  if (found.length > 0) return found.sort(byCodeUnits);
  throw new LockstepError(
    'DATA_MISSING',
    `${folder} holds no file whose name tells a format: name the files, and their --format`,
  );
}

function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .map((name) => join(folder, name))
      .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true);
  } catch (cause) {
    throw new LockstepError(
      'DATA_MISSING',
      `${folder} cannot be read (${messageOf(cause)}): check the path and its permissions`,
      { cause },
    );
  }
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** The part of a glob before its first sign: where the search begins. */
function fixedFolder(glob: string): string {
  const fixed = glob.slice(0, glob.search(/[*?[]/));
  const end = fixed.lastIndexOf('/');
  return end === -1 ? '.' : fixed.slice(0, end + 1);
}

function globPattern(glob: string): RegExp {
  const signs: Readonly<Record<string, string>> = {
    '**/': '(?:.*/)?',
    '**': '.*',
    '*': '[^/]*',
    '?': '[^/]',
  };
  const source = join(glob).replace(
    /\*\*\/|\*\*|[*?]|\[([^\]]+)\]|[\\^$.+(){}|[\]]/g,
    (sign, set: string | undefined) => {
      if (set !== undefined) return `[${set.replace(/^!/, '^').replace(/\\/g, '\\\\')}]`;
      return signs[sign] ?? `\\${sign}`;
    },
  );
  return new RegExp(`^${source}$`);
}
