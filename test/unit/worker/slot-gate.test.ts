/** The gate between the two threads of a worker: by itself, and with two real threads racing for it. */
import { join } from 'node:path';
import { Worker as Thread } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { SlotGate } from '../../../src/worker/slot-gate.ts';
import { BUILT } from '../../support/in-process.ts';
import { Recorder } from '../../support/waiting.ts';

describe('a gate', () => {
  test('lets as many slots in as it was made for', () => {
    const gate = new SlotGate({ count: 3 });
    for (let slot = 0; slot < 3; slot += 1) {
      expect(gate.isOpen).toBe(true);
      expect(gate.settle()).toBe(true);
    }
    expect(gate.isOpen).toBe(false);
    expect(gate.settle()).toBe(false);
  });

  test('shuts where it is limited, and never before what is in', () => {
    const gate = new SlotGate({ count: 5 });
    gate.settle();
    gate.settle();
    expect(gate.limit(3)).toBe(3);
    expect(gate.settle()).toBe(true);
    expect(gate.settle()).toBe(false);
    expect(gate.limit(0)).toBe(3);
    // What is given back once does not come again.
    expect(gate.limit(5)).toBe(3);
    expect(gate.isOpen).toBe(false);
  });

  test('is one for all who share it', () => {
    const gate = new SlotGate({ count: 2 });
    const other = new SlotGate(gate.shared);
    gate.settle();
    expect(other.limit(1)).toBe(1);
    expect(gate.isOpen).toBe(false);
  });

  test('agrees with two plain numbers, whatever is done to it', () => {
    const steps = fc.array(fc.oneof(fc.constant('settle' as const), fc.nat(2 ** 30)), { maxLength: 50 });
    fc.assert(
      fc.property(fc.nat(2 ** 30), steps, (count, all) => {
        const gate = new SlotGate({ count });
        let [settled, limit] = [0, count];
        for (const step of all) {
          if (step === 'settle') {
            expect(gate.settle()).toBe(settled < limit);
            settled = Math.min(settled + 1, limit);
          } else {
            limit = Math.min(limit, Math.max(settled, step));
            expect(gate.limit(step)).toBe(limit);
          }
          expect(gate.isOpen).toBe(settled < limit);
        }
      }),
    );
  });
});

describe('two threads', () => {
  const NUM_GATES = 400;
  const THREAD = join(import.meta.dirname, '..', '..', 'support', 'children', 'slot-gate-thread.mjs');
  let thread: Thread | null = null;
  afterAll(() => thread?.terminate());

  test('agree on what is in, at whatever moment one of them shuts the gate', {
    timeout: 60_000,
  }, async () => {
    const gates = Array.from({ length: NUM_GATES }, (_, index) => ({
      // So many that the other thread is not through before this one has acted.
      gate: new SlotGate({ count: 2 ** 30 }),
      start: new Int32Array(new SharedArrayBuffer(4)),
      delay: (index % 5) * 200,
      limit: (index % 4) * 50,
    }));
    const given = gates.map(({ gate, start, delay }) => ({ shared: gate.shared, start, delay }));
    thread = new Thread(THREAD, { workerData: { source: BUILT, gates: given } });
    const settled = new Recorder<number>();
    thread.on('message', settled.record);
    let [numEarly, numLate] = [0, 0];
    for (const { gate, start, limit } of gates) {
      Atomics.add(start, 0, 1);
      while (Atomics.load(start, 0) < 2);
      const allowed = gate.limit(limit);
      // Not one slot more than was promised, and not one less.
      expect(await settled.next()).toBe(allowed);
      expect(allowed).toBeGreaterThanOrEqual(limit);
      if (allowed > limit) numLate += 1;
      else if (allowed > 0) numEarly += 1;
    }
    // Both orders have been seen.
    expect(numEarly).toBeGreaterThan(0);
    expect(numLate).toBeGreaterThan(0);
  });
});
