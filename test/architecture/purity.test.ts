/**
 * Where time, chance and the process may be seen (STYLE section 3): files that decide are pure, so that
 * a simulator can run them; the process's arguments, environment and end belong to the commands.
 */
import { describe, expect, test } from 'vitest';
import { sourceFiles } from '../support/source-files.ts';

const files = sourceFiles();

/** Files that decide: same input, same result. A folder stands for all files in it. */
const PURE = [
  'coordinator/',
  'worker/lifecycle.ts',
  'worker/lifecycle-state.ts',
  'worker/lifecycle-turn.ts',
  'worker/taking-part.ts',
  'worker/set-aside.ts',
  'worker/slot-gate.ts',
  'worker/fragment-store.ts',
  'worker/partial-sums.ts',
  'worker/thread-messages.ts',
  'collective/',
  'simulator/',
  'base/',
  'chaos/',
  'metrics/',
  'evaluation/measure.ts',
  'evaluation/report.ts',
  'dashboard/contract.ts',
  'dashboard/view/',
  'config/deadlines.ts',
  'config/presets.ts',
  'protocol/messages.ts',
  'history/sequence.ts',
  'history/record.ts',
  'history/verify.ts',
  'history/verify-checkpoint.ts',
  'checkpoint/coverage.ts',
  'checkpoint/retention.ts',
  'checkpoint/sections.ts',
  'data/keyed-permutation.ts',
  'data/noise.ts',
  'data/samples.ts',
  'data/micro-batch.ts',
];

/** The few among them that do: sockets, files and clocks. */
const DRIVERS = [
  'coordinator/checkpoint-keeper.ts',
  'coordinator/coordinator.ts',
  'coordinator/data-routes.ts',
  'coordinator/run-folder.ts',
  'coordinator/start-weights.ts',
  'coordinator/state-server.ts',
];

const IMPURE =
  /\b(?:Date|performance|setTimeout|setInterval|setImmediate|queueMicrotask|fetch|crypto|console)\b\s*[.(]|\bnew Date\b|\bMath\.random\b|\bprocess\s*\./;

const purest = files.filter(
  ({ path }) =>
    !DRIVERS.includes(path) &&
    PURE.some((name) => (name.endsWith('/') ? path.startsWith(name) : path === name)),
);

describe('pure files', () => {
  test('all exist', () => {
    const missing = [...PURE, ...DRIVERS].filter((name) => !files.some(({ path }) => path.startsWith(name)));
    expect(missing).toEqual([]);
  });

  test('import nothing of Node', () => {
    const wrong = purest.flatMap(({ path, imports }) =>
      imports.filter(({ target }) => target.startsWith('node:')).map(({ target }) => `${path}: ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test('see no clock, no chance, no timer and no process', () => {
    const wrong = purest.flatMap(({ path, code }) => {
      const found = IMPURE.exec(code);
      return found === null ? [] : [`${path}: ${found[0]}`];
    });
    expect(wrong).toEqual([]);
  });

  test('chance comes from the counter-based generator everywhere', () => {
    expect(files.filter(({ code }) => /\bMath\.random\b/.test(code)).map(({ path }) => path)).toEqual([]);
  });
});

/** Rooms that are programs; the others do not know how they were started. */
const PROGRAMS = ['cli', 'bench'];
/** Other files that may touch the process's environment or arguments, and why. */
const ENVIRONMENT: Readonly<Record<string, string>> = {
  'queue/private-redis.ts': 'looks for redis-server on the PATH',
  'engine/tensorflow/tensorflow.ts':
    'TensorFlow takes its thread counts and log level from the environment only',
  'engine/probe.ts': 'the trial process gets the environment that the engine would be loaded with',
};
const ARGUMENTS: Readonly<Record<string, string>> = {
  'engine/tensorflow/tensorflow.ts':
    'hides the arguments from a loader within tfjs-node that takes them for its own',
};

/** Files outside the programs whose code shows one of these uses. */
function usersOf(use: RegExp): string[] {
  return files
    .filter(({ room, code }) => !PROGRAMS.includes(room) && use.test(code))
    .map(({ path }) => path)
    .sort();
}

describe('the process', () => {
  test('is ended by programs only', () => {
    expect(usersOf(/\bprocess\s*\.\s*(?:exit|abort|exitCode)\b/)).toEqual([]);
  });

  test('its arguments are read by programs, its environment there and where there is a reason', () => {
    expect(usersOf(/\bprocess\s*\.\s*argv\b/)).toEqual(Object.keys(ARGUMENTS).sort());
    expect(usersOf(/\bprocess\s*\.\s*env\b/)).toEqual(Object.keys(ENVIRONMENT).sort());
  });
});
