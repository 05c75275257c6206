/** The current source as JavaScript that a child process can import, whatever `dist` holds. */
import { execFileSync } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryFolder } from './temporary-folder.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** Compiles the named rooms or files and what they import; returns the folder that stands for `src`. */
export async function compiledSource(names: readonly string[]): Promise<string> {
  const folder = await temporaryFolder();
  const outDir = join(folder, 'out');
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  const config = {
    extends: join(ROOT, 'tsconfig.build.json'),
    compilerOptions: {
      rootDir: join(ROOT, 'src'),
      outDir,
      typeRoots: [join(ROOT, 'node_modules', '@types')],
    },
    include: [],
    files: names.map((name) => join(ROOT, 'src', name.endsWith('.ts') ? name : join(name, 'index.ts'))),
  };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
  execFileSync(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', folder], { stdio: 'inherit' });
  return outDir;
}
