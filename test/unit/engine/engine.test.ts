import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { loadEngine, probeEngine, probeEngines } from '../../../src/engine/index.ts';
import { BUILT } from '../../support/in-process.ts';

const libraryPath = process.env.NODE_OPTIONS;
afterEach(() => {
  if (libraryPath === undefined) delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = libraryPath;
});

/** A module that makes the tensorflow package fail to load, in this process's children. */
const BROKEN = join(import.meta.dirname, '..', '..', 'support', 'children', 'break-tensorflow.cjs');

describe('probing engines', () => {
  it('names every engine, with version and device or the reason why not', async () => {
    const probes = await probeEngines();
    expect(probes.map(({ name }) => name)).toEqual(['tensorflow', 'webgpu', 'wasm']);
    for (const probe of probes) {
      if (probe.available) expect(probe.version).toMatch(/\d+\.\d+\.\d+/);
      else expect(probe.reason).not.toBe('');
    }
    expect(probes[2]).toMatchObject({ available: true, device: 'CPU' });
  });

  it('gives the error that an engine fails with, and survives one that aborts', async () => {
    process.env.NODE_OPTIONS = `--require ${BROKEN}`;
    expect(await probeEngine('tensorflow')).toEqual({
      name: 'tensorflow',
      available: false,
      reason: 'libtensorflow.so.2: cannot open shared object file',
    });
    process.env.LOCKSTEP_TEST_ABORT = '1';
    const aborted = await probeEngine('tensorflow');
    delete process.env.LOCKSTEP_TEST_ABORT;
    expect(aborted).toEqual({ name: 'tensorflow', available: false, reason: 'loading ended in SIGABRT' });
  });
});

describe('loading an engine', () => {
  const inChild = async (name: string, environment: Record<string, string>) => {
    const script = `
      const { loadEngine } = await import(${JSON.stringify(`${BUILT}/engine/index.js`)});
      const say = ({ name, warnings, code, message }) => console.log(JSON.stringify({ name, warnings, code, message }));
      await loadEngine(${JSON.stringify(name)}, { threads: 1 }).then(say, say);`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, ...environment },
    });
    return JSON.parse(stdout.trim().split('\n').at(-1)!);
  };

  it('gives wasm, with a note when more threads are asked for than it uses', async () => {
    const engine = await loadEngine('wasm', { threads: 3 });
    expect(engine).toMatchObject({ name: 'wasm', device: 'CPU, 1 thread' });
    expect(engine.warnings).toEqual(['engine wasm computes on 1 thread; 3 were asked for']);
    expect(engine.tf.getBackend()).toBe('wasm');
  });

  it('falls back to wasm under auto and says why', async () => {
    const engine = await inChild('auto', { NODE_OPTIONS: `--require ${BROKEN}` });
    expect(engine.name).toBe('wasm');
    expect(engine.warnings[0]).toMatch(
      /engine wasm, because tensorflow cannot be loaded: libtensorflow\.so\.2.*npm run setup/,
    );
  });

  it('refuses a named engine that cannot be loaded, with reason and remedy', async () => {
    const error = await inChild('tensorflow', { NODE_OPTIONS: `--require ${BROKEN}` });
    expect(error.code).toBe('ENGINE_UNAVAILABLE');
    expect(error.message).toMatch(
      /^engine tensorflow cannot be loaded: libtensorflow\.so\.2.*`npm run setup`/,
    );
  });
});
