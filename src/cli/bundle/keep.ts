/** What of a package's files runs: not its other builds, types, maps and documents, and nothing for other platforms. */

const PLATFORMS = ['darwin', 'linux', 'win32', 'android', 'freebsd', 'aix', 'sunos'];
const ARCHITECTURES = ['x64', 'arm64', 'arm', 'ia32', 's390x', 'ppc64', 'universal'];

export interface Target {
  readonly platform: string;
  readonly arch: string;
}

/**
 * Builds for other versions of Node stay: zeromq's are of the stable interface, and on a host with an older C library one
 * made for an older Node is the one that loads.
 * @param path of a file, from its package's folder, with `/`
 */
export function isForTarget(path: string, { platform, arch }: Target): boolean {
  return path.split('/').every((part) => {
    const words = part.split('-');
    const named = words.find((word) => PLATFORMS.includes(word));
    if (named !== undefined && named !== platform) return false;
    // A folder such as `x64`, or `linux-x64`; Macs have builds for both of theirs.
    const isNamed = named !== undefined || words.length === 1;
    const built = words.find((word) => ARCHITECTURES.includes(word));
    return !isNamed || built === undefined || built === arch || built === 'universal';
  });
}

/** @param main the file that `require` of the package gives, from its package.json */
export function isRunnable(packageName: string, path: string, main: string | undefined): boolean {
  if (/^LICEN[CS]E/i.test(path) || path === 'package.json') return true;
  // Each is whole in one file, among five other builds of the same.
  if (packageName.startsWith('@tensorflow/'))
    return path === main?.replace(/^\.\//, '') || path.endsWith('.wasm');
  if (/(^|\/)(test|tests|__tests__|docs?|examples?|benchmarks?|\.github)\//.test(path)) return false;
  return /\.(js|mjs|cjs|json|node|wasm|html|css|svg|png|ico|woff2?|ejs|lua)$/.test(path);
}
