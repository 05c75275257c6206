/** The thread that holds the model: an engine blocks its thread, and the server's must answer meanwhile. */
import { parentPort, workerData } from 'node:worker_threads';
import { LockstepError, messageOf } from '../base/index.ts';
import { TextGenerator } from '../generation/index.ts';
import type { FromThread, ThreadData, ToThread } from './messages.ts';

// Started by generation-service.ts, which passes both.
const port = parentPort!;
const { place, open } = workerData as ThreadData;
const tell = (message: FromThread) => port.postMessage(message);

try {
  const generator = await TextGenerator.open(place, open);
  let work: Promise<void> = Promise.resolve();
  port.on('message', (message: ToThread) => {
    work = work.then(async () => {
      if (message.type === 'close') {
        await generator.close();
        port.close();
      } else {
        try {
          tell({ type: 'generated', results: await generator.generate(message.texts, message.options) });
        } catch (error) {
          fail(error);
        }
      }
    });
  });
  tell({ type: 'ready', facts: generator.facts });
} catch (error) {
  fail(error);
  port.close();
}

function fail(error: unknown): void {
  const code = error instanceof LockstepError ? error.code : null;
  tell({ type: 'failed', code, reason: messageOf(error) });
}
