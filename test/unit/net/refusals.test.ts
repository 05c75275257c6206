/** Refusals are counted exactly, and logged neither one by one nor only once. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { LogFields, Logger } from '../../../src/base/index.ts';
import { silentLogger } from '../../../src/base/index.ts';
import { Refusals } from '../../../src/net/index.ts';

function listening(): { lines: LogFields[]; logger: Logger } {
  const lines: LogFields[] = [];
  const logger: Logger = {
    ...silentLogger,
    warn: (event, fields) => {
      if (event === 'frameRefused') lines.push(fields ?? {});
    },
  };
  return { lines, logger };
}

test('the first of a kind is told at once, the rest together', () => {
  const { lines, logger } = listening();
  const refusals = new Refusals(logger);
  for (const reason of ['stale', 'stale', 'torn', 'stale']) refusals.add(reason);
  expect(lines).toEqual([
    { reason: 'stale', count: 1 },
    { reason: 'torn', count: 1 },
  ]);
  refusals.tell();
  refusals.tell();
  expect(lines.slice(2)).toEqual([{ reason: 'stale', count: 2 }]);
});

test('the lines add up to what was refused, whenever it is told', () => {
  const happening = fc.oneof(fc.constantFrom('a', 'b', 'c'), fc.constant(null));
  fc.assert(
    fc.property(fc.array(happening), (happenings) => {
      const { lines, logger } = listening();
      const refusals = new Refusals(logger);
      for (const reason of happenings) {
        if (reason === null) refusals.tell();
        else refusals.add(reason);
      }
      refusals.tell();
      for (const [reason, count] of refusals.counts) {
        expect(count).toBe(happenings.filter((other) => other === reason).length);
        const told = lines.filter((line) => line.reason === reason);
        expect(told.reduce((sum, line) => sum + Number(line.count), 0)).toBe(count);
      }
      expect(refusals.counts.size).toBe(new Set(happenings.filter((reason) => reason !== null)).size);
    }),
  );
});
