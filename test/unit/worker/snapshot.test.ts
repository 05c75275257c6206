/** The copy of a state that a checkpoint is written from: right, and nothing that holds the thread up. */
import { expect, test } from 'vitest';
import { SECTIONS } from '../../../src/base/index.ts';
import { takeSnapshot } from '../../../src/worker/state-transfer.ts';

test('a snapshot is a copy of the part that is ordered, made in turns with whatever else the thread has to do', async () => {
  const floats = 2 ** 23 + 5;
  const offset = 3;
  const [parameters, firstMoment, secondMoment] = SECTIONS.map((_, index) =>
    new Float32Array(floats + offset).map((_value, at) => index + (at % 1000)),
  ) as [Float32Array, Float32Array, Float32Array];
  const state = { parameters, firstMoment, secondMoment };
  let turns = 0;
  let isCopying = true;
  const count = () => {
    turns += 1;
    if (isCopying) setImmediate(count);
  };
  setImmediate(count);
  const order = { step: 1, attempt: 1, offset, length: floats };
  const snapshot = await takeSnapshot(state, order);
  isCopying = false;
  // Three sections of three pieces each.
  expect(turns).toBeGreaterThanOrEqual(9);
  expect(snapshot.order).toBe(order);
  SECTIONS.forEach((section, index) => {
    const copy = snapshot.sections[index]!;
    expect(copy.length).toBe(floats);
    expect(copy.buffer).not.toBe(state[section].buffer);
    expect(Buffer.compare(Buffer.from(copy.buffer), Buffer.from(state[section].buffer, offset * 4))).toBe(0);
  });
});
