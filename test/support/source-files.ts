/**
 * The source as the architecture tests see it: every file under src, its room, its code without
 * comments, and what it imports. Reads text; nothing of the product is loaded.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

const SOURCE = join(import.meta.dirname, '..', '..', 'src');

export interface SourceFile {
  /** Path below src, as `coordinator/machine.ts`. */
  readonly path: string;
  readonly room: string;
  /** Without comments, so that a word in a sentence is no use of it. */
  readonly code: string;
  readonly imports: readonly Import[];
}

export interface Import {
  /** What stands in the quotes. */
  readonly specifier: string;
  /** Path below src for one of our own files, the package's name for another's (`node:fs` counts as one). */
  readonly target: string;
  /** The room it comes from; null for packages. */
  readonly room: string | null;
}

const IMPORT = /\bfrom\s*'([^']+)'|\bimport\s*'([^']+)'|\bimport\(\s*'([^']+)'|\brequire\(\s*'([^']+)'/g;

export function sourceFiles(): SourceFile[] {
  return readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => path.replaceAll('\\', '/'))
    .sort()
    .map((path) => {
      const code = withoutComments(readFileSync(join(SOURCE, path), 'utf8'));
      return { path, room: roomOf(path), code, imports: importsOf(path, code) };
    });
}

/** Keeps strings: `//` within quotes (an address) opens no comment. */
export function withoutComments(text: string): string {
  return text.replace(
    /('(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_match, quoted: string | undefined) => quoted ?? ' ',
  );
}

function importsOf(path: string, code: string): Import[] {
  return [...code.matchAll(IMPORT)].map((match) => {
    const specifier = match.slice(1).find((group) => group !== undefined)!;
    if (!specifier.startsWith('.')) return { specifier, target: packageOf(specifier), room: null };
    const target = posix.join(posix.dirname(path), specifier);
    return { specifier, target, room: roomOf(target) };
  });
}

function roomOf(path: string): string {
  return path.split('/')[0]!;
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('node:')) return specifier;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}
