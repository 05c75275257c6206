import { readFileSync } from 'node:fs';

/** Lockstep's version, from package.json. */
export function lockstepVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  // The package's own file.
  return (JSON.parse(text) as { version: string }).version;
}
