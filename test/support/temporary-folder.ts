/** Folders of real files for tests, removed afterwards; and a disk that is small enough to fill. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const folders: string[] = [];
const mounts: string[] = [];

// At the time of import, for vitest takes no hooks from within a test.
afterAll(removeAll);

/** A new empty folder, gone when the test file is done. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-test-'));
  folders.push(folder);
  return folder;
}

/** A file system of `bytes` in memory, or null where this process may not mount one. */
export async function smallFileSystem(bytes: number): Promise<string | null> {
  const folder = await temporaryFolder();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder], { stdio: 'ignore' });
  } catch {
    return null;
  }
  mounts.push(folder);
  return folder;
}

async function removeAll(): Promise<void> {
  for (const folder of mounts.splice(0)) execFileSync('umount', [folder]);
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
}
