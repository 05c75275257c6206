/** What of a package's files runs: not its other builds, types, maps and documents, and nothing for other platforms. */

const PLATFORMS = ['darwin', 'linux', 'win32', 'android', 'freebsd', 'aix', 'sunos'];
const ARCHITECTURES = ['x64', 'arm64', 'arm', 'ia32', 's390x', 'ppc64', 'universal'];

export interface Target {
  readonly platform: string;
  readonly arch: string;
  /** Of Node's binary interface, as `process.versions.modules`. */
  readonly abi: string;
}

/** @param path of a file, from its package's folder, with `/` */
export function isForTarget(path: string, { platform, arch, abi }: Target): boolean {
  return path.split('/').every((part) => {
    // `115`, or `glibc-115-Release`: a build for one version of Node.
    const builtFor = path.endsWith('.node')
      ? /^(?:[a-z]+-)?(\d{2,3})(?:-Release)?$/.exec(part)?.[1]
      : undefined;
    if (builtFor !== undefined && builtFor !== abi) return false;
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
