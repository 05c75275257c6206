/** Room for what is written to be sent: apart within an attempt, the same memory in the next. */
import { expect, test } from 'vitest';
import { SendingRoom } from '../../../src/worker/sending-room.ts';

test('ranges of one attempt are apart, and those of the next lie where they lay', () => {
  const room = new SendingRoom();
  const lengths = [4096, 10, 4096];
  const first = lengths.map((length) => room.take(length, 'bfloat16'));
  expect(first.map(({ length }) => length)).toEqual(lengths);
  expect(new Set(first.map(({ buffer }) => buffer)).size).toBe(3);
  room.clear();
  // Shorter ones fit; a longer one gets memory of its own, and the others keep theirs.
  const second = [100, 4096, 4096].map((length) => room.take(length, 'bfloat16'));
  expect(second.map(({ length }) => length)).toEqual([100, 4096, 4096]);
  expect(second.map(({ buffer }, index) => buffer === first[index]!.buffer)).toEqual([true, false, true]);
  expect(new Set(second.map(({ buffer }) => buffer)).size).toBe(3);
  room.clear();
  const floats = room.take(2048, 'float32');
  expect(floats).toBeInstanceOf(Float32Array);
  expect(floats.buffer).toBe(first[0]!.buffer);
});
