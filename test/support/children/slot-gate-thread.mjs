/**
 * The compute thread's side of a slot gate, in a thread of its own: settles slots as fast as it can until
 * the gate is shut, and tells how many it got in. Worker data: the compiled source and the gates to race
 * for, each with a word that both threads wait on, so that they begin together.
 */
import { parentPort, workerData } from 'node:worker_threads';

const { source, gates } = workerData;
const { SlotGate } = await import(`${source}/worker/slot-gate.js`);

for (const { shared, start, delay } of gates) {
  const gate = new SlotGate(shared);
  Atomics.add(start, 0, 1);
  while (Atomics.load(start, 0) < 2);
  for (let spin = 0; spin < delay; spin += 1);
  let numSettled = 0;
  while (gate.settle()) numSettled += 1;
  parentPort.postMessage(numSettled);
}
