/**
 * Who may import whom (docs/ARCHITECTURE.md, STYLE section 3): arrows go down, rooms are entered by
 * their index.ts only, and the packages that touch the world have one home each.
 */
import { describe, expect, test } from 'vitest';
import { sourceFiles, withoutComments } from '../support/source-files.ts';

/** What each room may import. A new room gets its line here before anything else. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  config: ['base'],
  memory: ['base'],
  kernels: ['base', 'config', 'memory'],
  collective: ['base', 'config', 'kernels'],
  storage: ['base'],
  checkpoint: ['base', 'config', 'kernels', 'storage'],
  history: ['base', 'config', 'storage'],
  data: ['base', 'config', 'kernels', 'storage'],
  model: ['base', 'config', 'kernels', 'data'],
  engine: ['base', 'config', 'memory', 'kernels'],
  protocol: ['base', 'config'],
  net: ['base', 'config', 'memory', 'protocol'],
  queue: ['base', 'config', 'protocol'],
  logging: ['base'],
  chaos: ['base'],
  metrics: ['base'],
  dashboard: [
    ...['base', 'config', 'storage', 'checkpoint', 'history', 'queue', 'coordinator', 'playground'],
  ],
  generation: ['base', 'config', 'checkpoint', 'data', 'model', 'engine', 'coordinator', 'weights'],
  evaluation: [
    ...['base', 'config', 'kernels', 'checkpoint', 'data', 'model', 'engine', 'coordinator'],
    ...['generation', 'metrics'],
  ],
  playground: ['base', 'config', 'checkpoint', 'data', 'generation', 'evaluation', 'coordinator'],
  serving: ['base', 'generation', 'dashboard'],
  coordinator: [
    ...['base', 'config', 'collective', 'storage', 'checkpoint', 'history', 'protocol', 'net', 'queue'],
  ],
  weights: ['base', 'config', 'storage', 'checkpoint', 'data', 'model', 'coordinator'],
  worker: [
    ...['base', 'config', 'kernels', 'collective', 'data', 'model', 'engine'],
    ...['protocol', 'net', 'queue', 'logging'],
  ],
  simulator: ['base', 'config', 'kernels', 'collective', 'protocol', 'coordinator', 'worker'],
};
/** Programs: they put the parts together and see everything; no room sees them. */
const PROGRAMS = ['cli', 'bench'];

/** Packages that reach out of the process, or weigh much, and the only rooms that may load them. */
const HOMES: Readonly<Record<string, readonly string[]>> = {
  zeromq: ['net'],
  koffi: ['memory'],
  bullmq: ['queue'],
  ioredis: ['queue'],
  pino: ['logging'],
  commander: PROGRAMS,
  '@tensorflow/tfjs': ['engine', 'model'],
  wtf_wikipedia: ['data'],
  yauzl: ['weights'],
  stemmer: ['metrics'],
  msgpackr: ['protocol'],
  fastify: ['coordinator', 'dashboard', 'serving'],
  'prom-client': ['dashboard'],
  '@bull-board/api': ['dashboard'],
};

const files = sourceFiles();

describe('rooms', () => {
  test('every room has its line in the table', () => {
    const rooms = new Set(files.map(({ room }) => room));
    expect([...rooms].filter((room) => !PROGRAMS.includes(room) && ROOMS[room] === undefined)).toEqual([]);
  });

  test('import downwards only', () => {
    const wrong = files
      .filter(({ room }) => !PROGRAMS.includes(room))
      .flatMap(({ path, room, imports }) =>
        imports
          .filter((found) => found.room !== null && found.room !== room && !ROOMS[room]?.includes(found.room))
          .map(({ target }) => `${path} imports ${target}`),
      );
    expect(wrong).toEqual([]);
  });

  test('import one another without a cycle', () => {
    const below = new Map<string, Set<string>>();
    for (const { room, imports } of files) {
      const targets = below.get(room) ?? new Set();
      for (const found of imports) if (found.room !== null && found.room !== room) targets.add(found.room);
      below.set(room, targets);
    }
    // Takes away rooms that import nothing any more; what stays is a cycle or stands on one.
    for (let found = true; found; ) {
      found = false;
      for (const [room, targets] of below) {
        if ([...targets].some((target) => below.has(target))) continue;
        below.delete(room);
        found = true;
      }
    }
    expect([...below.keys()]).toEqual([]);
  });

  test('are entered by their index.ts', () => {
    const wrong = files.flatMap(({ path, room, imports }) =>
      imports
        .filter(
          (found) => found.room !== null && found.room !== room && found.target !== `${found.room}/index.ts`,
        )
        .map(({ target }) => `${path} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test('exist for every import: a name in quotes is a file', () => {
    const known = new Set(files.map(({ path }) => path));
    const missing = files.flatMap(({ path, imports }) =>
      imports
        .filter(({ room, target }) => room !== null && !known.has(target))
        .map(({ target }) => `${path} imports ${target}`),
    );
    expect(missing).toEqual([]);
  });
});

describe('packages', () => {
  test('are loaded at home only', () => {
    const wrong = files.flatMap(({ path, room, imports }) =>
      imports
        .filter(({ target }) => HOMES[target] !== undefined && !HOMES[target].includes(room))
        .map(({ target }) => `${path} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test('tfjs backends are named in engine only', () => {
    // Backends are loaded through their CommonJS build, by name, so the name is what to look for; programs
    // name them to users (`doctor`).
    const wrong = files.filter(
      ({ room, code }) => room !== 'engine' && !PROGRAMS.includes(room) && /tfjs-(?:node|backend)/.test(code),
    );
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });
});

describe('the reader of source files', () => {
  test('finds what there is to find', () => {
    const machine = files.find(({ path }) => path === 'coordinator/machine.ts');
    expect(machine?.imports.map(({ target }) => target)).toContain('protocol/index.ts');
    expect(files.length).toBeGreaterThan(80);
  });

  test('takes comments away and leaves strings', () => {
    expect(withoutComments("a('tcp://x'); // process.exit\n/* Date */ b(`//`)")).toBe(
      "a('tcp://x');  \n  b(`//`)",
    );
  });
});
