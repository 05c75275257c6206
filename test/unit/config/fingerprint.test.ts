/** What decides the bits has one text, one fingerprint and a readable difference. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bitDecidingPart,
  canonicalJson,
  fingerprintOf,
  listDifferences,
  PRESETS,
  type RunConfig,
} from '../../../src/config/index.ts';

const SHA = 'ab'.repeat(32);
const part = (change: Partial<RunConfig> = {}, dataset = SHA) =>
  bitDecidingPart({ ...PRESETS.tiny, ...change }, dataset);

/** The same value with the keys of every object in another order. */
function shuffled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shuffled);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, member]) => [key, shuffled(member)]),
  );
}

describe('canonicalJson', () => {
  // JSON.stringify has one zero only.
  const json = fc
    .jsonValue({ maxDepth: 4, noUnicodeString: false })
    .map((value) => JSON.parse(JSON.stringify(value)));

  test('does not depend on the order of keys, and says the same as JSON', () => {
    fc.assert(
      fc.property(json, (value) => {
        // Such a key is no own property once an object is rebuilt, in JavaScript at large.
        fc.pre(!JSON.stringify(value).includes('__proto__'));
        const text = canonicalJson(value);
        expect(canonicalJson(shuffled(value))).toBe(text);
        expect(JSON.parse(text)).toEqual(value);
      }),
    );
  });

  test('orders keys by code units and leaves undefined members out', () => {
    expect(canonicalJson({ b: 1, a: undefined, B: [2, { d: null, c: 'x' }], '10': 0, '9': 0 })).toBe(
      '{"10":0,"9":0,"B":[2,{"c":"x","d":null}],"b":1}',
    );
  });
});

describe('fingerprintOf', () => {
  test('is a SHA-256 that the order of keys does not change', () => {
    expect(fingerprintOf(part())).toMatch(/^[0-9a-f]{64}$/);
    expect(fingerprintOf(shuffled(part()) as ReturnType<typeof part>)).toBe(fingerprintOf(part()));
  });

  test('changes with every single setting that decides the bits', () => {
    const leaves = (value: unknown, path: string[] = []): string[][] =>
      value !== null && typeof value === 'object'
        ? Object.entries(value).flatMap(([key, member]) => leaves(member, [...path, key]))
        : [path];
    const paths = leaves(part());
    expect(paths.length).toBeGreaterThan(30);
    const prints = paths.map((path) => {
      const copy = structuredClone(part()) as unknown as Record<string, unknown>;
      const holder = path.slice(0, -1).reduce((at, key) => at[key] as Record<string, unknown>, copy);
      holder[path.at(-1)!] = 'changed';
      return fingerprintOf(copy as unknown as ReturnType<typeof part>);
    });
    expect(new Set([...prints, fingerprintOf(part())]).size).toBe(paths.length + 1);
  });

  test('knows nothing of settings that are as they were before there was a choice', () => {
    expect(Object.keys(part())).not.toContain('gradientPrecision');
    expect(Object.keys(part())).not.toContain('matmulPrecision');
    const changed = [
      { gradientPrecision: 'bfloat16' },
      { matmulPrecision: 'float16' },
      { mixedEngines: true },
    ] as const;
    const parts = [part(), ...changed.map((change) => part(change))];
    expect(new Set(parts.map(fingerprintOf)).size).toBe(parts.length);
  });

  test('leaves alone what does not: length of the run, checkpoints, network, name of the preset', () => {
    const neutral: Partial<RunConfig> = {
      preset: 'small',
      steps: 1,
      checkpoint: { every: 1, keepLast: 1, keepEvery: 1 },
      network: { heartbeatLimitMs: 600, pieceBytes: 16_384 },
    };
    expect(fingerprintOf(part(neutral))).toBe(fingerprintOf(part()));
    expect(fingerprintOf(part({}, 'cd'.repeat(32)))).not.toBe(fingerprintOf(part()));
  });
});

describe('listDifferences', () => {
  test('names each leaf that differs, ours first', () => {
    const theirs = { ...part({ seed: 2 }), optimizer: { ...PRESETS.tiny.optimizer, clipNorm: null } };
    expect(listDifferences(part(), theirs)).toEqual(['optimizer.clipNorm: 1 -> null', 'seed: 1 -> 2']);
  });

  test('names what only one side has', () => {
    expect(listDifferences({ a: 1 }, { a: 1, b: { c: 2 } })).toEqual(['b: not set -> {"c":2}']);
    expect(listDifferences([1, 2], [1])).toEqual(['1: 2 -> not set']);
  });

  test('is empty exactly for equal values, and mirrored for swapped ones', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 3 }), fc.jsonValue({ maxDepth: 3 }), (a, b) => {
        expect(listDifferences(a, structuredClone(a))).toEqual([]);
        expect(listDifferences(a, b).length).toBe(listDifferences(b, a).length);
      }),
    );
  });
});
