/** A folder as one compressed archive, by the system's `tar`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip } from 'node:zlib';
import { LockstepError } from '../../base/index.ts';

/** Writes `parent/name` to `file`, with paths that start at `name`. */
export async function packFolder(parent: string, name: string, file: string): Promise<void> {
  // Equal contents make equal archives, with GNU's tar at least.
  const even =
    process.platform === 'linux'
      ? ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner']
      : [];
  const tar = spawn('tar', ['-C', parent, ...even, '-cf', '-', name], { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaint = '';
  tar.stderr.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(0, 1000);
  });
  const ended = once(tar, 'close') as Promise<[number | null]>;
  await pipeline(tar.stdout, createGzip({ level: constants.Z_BEST_COMPRESSION }), createWriteStream(file));
  const [code] = await ended;
  if (code === 0) return;
  throw new LockstepError(
    'DISK_FULL',
    `tar ended with code ${code}: ${complaint.trim().split('\n')[0] ?? ''}`,
  );
}
