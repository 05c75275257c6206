/**
 * Step 3: a Redis (or Valkey) server program. Only the program is needed: Lockstep starts its own server on its own port, so
 * an installed package must not leave a system-wide daemon behind.
 */
import { SetupError } from './progress.mjs';
import { aptInstall, run, which } from './system.mjs';

/** Below this BullMQ warns at every connection (its own hard limit is 5.0). */
const VERSION_MIN = /** @type {const} */ ([6, 2]);

/**
 * @param {import('./progress.mjs').Note} note
 * @returns {Promise<import('./progress.mjs').Outcome>}
 */
export async function ensureRedis(note) {
  const present = await findServer();
  if (present.good !== undefined) return { did: false, said: present.good };

  const wanted = `Redis or Valkey ${VERSION_MIN.join('.')} or newer`;
  if (present.tooOld !== undefined) {
    throw new SetupError(
      `${present.tooOld} is on PATH, but ${wanted} is needed: install one and run this again`,
    );
  }
  const whyNot = await aptInstall(['redis-server'], {
    service: 'redis-server',
    onStart: () => note('installing the Debian package redis-server'),
  });
  const installed = await findServer();
  if (installed.good !== undefined)
    return { did: true, said: `${installed.good}, its system service left off` };
  if (installed.tooOld !== undefined) {
    throw new SetupError(`apt-get offers only ${installed.tooOld}: install ${wanted} and run this again`);
  }
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  let remedy = 'install it with the package manager of this system';
  if (process.platform === 'darwin') remedy = 'type: brew install redis';
  else if (which('apt-get') !== undefined) remedy = `type: ${sudo}apt-get install redis-server`;
  throw new SetupError(`no redis-server on PATH (${whyNot}; needs ${wanted}); ${remedy}`);
}

/** @returns {Promise<{ good?: string, tooOld?: string }>} program and version */
async function findServer() {
  /** @type {string | undefined} */
  let tooOld;
  for (const name of ['redis-server', 'valkey-server']) {
    if (which(name) === undefined) continue;
    const found = /\bv=(\d+)\.(\d+)\.(\d+)/.exec((await run(name, ['--version'])).stdout);
    if (found === null) continue;
    const label = `${name} ${found.slice(1).join('.')}`;
    const [major, minor] = [Number(found[1]), Number(found[2])];
    if (major > VERSION_MIN[0] || (major === VERSION_MIN[0] && minor >= VERSION_MIN[1]))
      return { good: label };
    tooOld ??= label;
  }
  return tooOld === undefined ? {} : { tooOld };
}
