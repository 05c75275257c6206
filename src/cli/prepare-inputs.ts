/**
 * What the inputs of `lockstep prepare` stand for, as files on this machine: folders and globs are searched, addresses
 * are downloaded, and `--wikipedia` finds the newest dump. How much is to be downloaded is said before it is.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { LockstepError } from '../base/index.ts';
import { describeRemote, download, findInputs, newestDump, type RemoteFile } from '../data/index.ts';
import { formatBytes, isTerminal, LiveLine, say } from './terminal.ts';

const RETRY_MS = 1_000;

export interface InputFlags {
  readonly out: string;
  readonly wikipedia?: string;
  readonly dumpsUrl: string;
  readonly downloads?: string;
  readonly yes?: boolean;
}

/** Files in the order of their names on the command line. Errors are those of finding and fetching them. */
export async function resolveInputs(names: readonly string[], flags: InputFlags): Promise<string[]> {
  const directory = flags.downloads ?? join(flags.out, 'downloads');
  const files: string[] = [];
  if (flags.wikipedia !== undefined) {
    const { wiki, date, files: remote } = await newestDump(flags.wikipedia, flags.dumpsUrl);
    const size = formatBytes(remote.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0));
    const what = `${wiki} of ${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}: ${remote.length} files, ${size}, into ${directory}`;
    await confirm(what, flags.yes === true);
    files.push(...(await fetchAll(remote, directory)));
  }
  for (const name of names) {
    if (!/^https?:\/\//i.test(name)) files.push(...findInputs(name));
    else {
      const remote = await describeRemote(name);
      const size = remote.bytes === null ? 'size unknown' : formatBytes(remote.bytes);
      const sum =
        remote.checksum === null ? 'no checksum published' : `${remote.checksum.algorithm} published`;
      say(`${name}: ${size}, ${sum}, into ${directory}`);
      files.push(...(await fetchAll([remote], directory)));
    }
  }
  return files;
}

async function confirm(what: string, isAgreed: boolean): Promise<void> {
  say(what);
  if (isAgreed) return;
  if (!isTerminal || process.stdin.isTTY !== true) {
    throw new LockstepError('CONFIG_INVALID', `--wikipedia: ${what}: pass --yes to download it`);
  }
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = await prompt.question('Download it? [y/N] ');
    if (!/^y(?:es)?$/i.test(answer.trim()))
      throw new LockstepError('CONFIG_INVALID', '--wikipedia: not downloaded');
  } finally {
    prompt.close();
  }
}

/** Downloads one file after another, as the servers ask; the paths of those that are inputs. */
async function fetchAll(remote: readonly RemoteFile[], directory: string): Promise<string[]> {
  const line = new LiveLine();
  const inputs: string[] = [];
  try {
    for (const { url, checksum, isInput } of remote) {
      const path = await download({
        url,
        directory,
        checksum,
        retryMs: RETRY_MS,
        onProgress: (bytes, total) =>
          line.show(
            `download ${formatBytes(bytes)}${total === null ? '' : ` of ${formatBytes(total)}`}  ${url}`,
          ),
      });
      if (isInput) inputs.push(path);
    }
  } finally {
    line.end();
  }
  return inputs;
}

/** Of the inputs that are there; the others are named when they are opened. */
export function sizeOfInputs(files: readonly string[]): number {
  return files.reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0);
}
