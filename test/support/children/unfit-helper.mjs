/**
 * A helper thread of the kernels that does not finish the first part it claims: it ends there, or throws.
 * Worker data: the built program, the board's memory, and `ends` or `throws`.
 */
import { workerData } from 'node:worker_threads';

const { source, shared, how } = workerData;
const { CallBoard } = await import(`${source}/kernels/call-board.js`);

new CallBoard(shared).serve(0, () => {
  if (how === 'ends') process.exit();
  throw new Error('no part of this');
});
