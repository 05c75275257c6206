/** Files that a flag names and a command writes. */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { LockstepError, messageOf } from '../base/index.ts';

/** Half a file never stands under the name. Throws DISK_FULL naming the flag. */
export function writeWhole(flag: string, path: string, text: string): void {
  const partial = `${path}.partial`;
  try {
    writeFileSync(partial, text);
    renameSync(partial, path);
  } catch (cause) {
    rmSync(partial, { force: true });
    throw new LockstepError(
      'DISK_FULL',
      `${flag} ${path} could not be written (${messageOf(cause)}): name a file in a folder that exists and has space`,
      { context: { path }, cause },
    );
  }
}
