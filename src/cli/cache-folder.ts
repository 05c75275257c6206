/** What may be deleted at any time and is kept from run to run: fetched data, peers that the benchmark installs. */
import { homedir } from 'node:os';
import { join } from 'node:path';

export function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME;
  const root = base === undefined || base === '' ? join(homedir(), '.cache') : base;
  return join(root, 'lockstep');
}
