/** Entry of the comm thread: joins a `CommThread` to the port of the compute thread. */
import { parentPort, workerData } from 'node:worker_threads';
import { assert, messageOf } from '../base/index.ts';
import { createLogger } from '../logging/index.ts';
import { CommThread } from './comm.ts';
import type { CommThreadData, FromComm, IntoComm } from './worker.ts';

const port = parentPort;
assert(port !== null, 'the comm thread is started by worker.ts');
// Given by worker.ts of this very version.
const { options, log } = workerData as CommThreadData;
const say = (message: FromComm) => port.postMessage(message);

try {
  const comm = await CommThread.start(options, {
    logger: createLogger(log).child({ role: 'worker' }),
    toCompute: (message) => say({ type: 'compute', message }),
    onEnded: (ending) => say({ type: 'ended', ending }),
  });
  port.on('message', (message: IntoComm) => {
    if (message.type === 'fromCompute') comm.handle(message.message);
    else if (message.type === 'drain') comm.drain();
    else {
      void comm.close().finally(() => {
        say({ type: 'closed' });
        port.close();
      });
    }
  });
} catch (error) {
  say({ type: 'failed', message: messageOf(error) });
}
