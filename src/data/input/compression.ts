/**
 * The decompressors of dumps. All but gzip are the system's own programs, fed through a pipe: they are
 * nearly everywhere, faster than JavaScript, and give out the whole blocks of a damaged file before they
 * complain. Which one is told by the file's name.
 */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { LockstepError, messageOf } from '../../base/index.ts';

/** By suffix, the longest first: what each needs on the PATH, in order of preference; gzip is built in. */
const PROGRAMS: readonly (readonly [suffix: string, commands: readonly (readonly string[])[]])[] = [
  ['.tar.gz', [['tar', '-xzOf', '-']]],
  ['.tgz', [['tar', '-xzOf', '-']]],
  ['.gz', []],
  [
    '.bz2',
    [
      ['lbzip2', '-dc'],
      ['bzip2', '-dc'],
    ],
  ],
  ['.xz', [['xz', '-dc']]],
  ['.zst', [['zstd', '-dcq', '--long=31']]],
];

const STDERR_CHARACTERS_MAX = 2000;

/** The suffix that says how `file` is compressed, or ''. */
export function compressionOf(file: string): string {
  return PROGRAMS.find(([suffix]) => file.toLowerCase().endsWith(suffix))?.[0] ?? '';
}

export interface Decompressor {
  readonly input: Writable;
  readonly output: AsyncIterable<Buffer>;
  /** Once `output` has ended: null, or what was wrong with the data, on one line ('' when nothing more is known). */
  complaint(): Promise<string | null>;
  stop(): void;
}

/** Starts the decompressor for `file`, whose bytes go to its `input`. Throws DATA_MISSING without its program. */
export function startDecompressor(file: string): Decompressor {
  const suffix = compressionOf(file);
  return suffix === '.gz' ? gunzip() : startProgram(findProgram(file, suffix));
}

function gunzip(): Decompressor {
  const stream = createGunzip();
  let failure: string | null = null;
  return {
    input: stream,
    output: (async function* () {
      try {
        yield* stream as AsyncIterable<Buffer>;
      } catch (error) {
        failure = messageOf(error);
      }
    })(),
    complaint: async () => failure,
    stop: () => stream.destroy(),
  };
}

const found = new Map<string, readonly string[]>();

function findProgram(file: string, suffix: string): readonly string[] {
  const known = found.get(suffix);
  if (known !== undefined) return known;
  const commands = PROGRAMS.find(([name]) => name === suffix)?.[1] ?? [];
  const program = commands.find(
    ([command]) => spawnSync(command!, ['--help'], { stdio: 'ignore' }).error === undefined,
  );
  if (program !== undefined) {
    found.set(suffix, program);
    return program;
  }
  const name = commands.at(-1)![0]!;
  throw new LockstepError(
    'DATA_MISSING',
    `${file} needs ${name}, which is not on PATH: install ${name}, or decompress the file first`,
    { context: { file } },
  );
}

function startProgram([command, ...args]: readonly string[]): Decompressor {
  const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(command!, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => {
    if (said.length < STDERR_CHARACTERS_MAX) said += text.toString();
  });
  const exit = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  return {
    input: child.stdin,
    output: child.stdout as AsyncIterable<Buffer>,
    complaint: async () => ((await exit) === 0 ? null : reasonIn(said)),
    stop: () => child.kill(),
  };
}

/** The line of a program's complaint that says what is wrong; they say much else. */
function reasonIn(complaint: string): string {
  const telling = /unexpect|integrity|corrupt|CRC|not a bzip2|trunc|premature|incomplete|error/i;
  return (
    complaint
      .split('\n')
      .find((line) => telling.test(line))
      ?.trim() ?? ''
  );
}
