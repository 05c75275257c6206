/** `lockstep worker --devices`: a worker process for each device, watched by this one. */

import type { EngineName } from '../config/index.ts';
import { type DevicesFlag, devicesFor } from './devices.ts';
import { type LocalProcess, startLocalProcess } from './local-workers.ts';
import { warn } from './terminal.ts';

/**
 * Starts `lockstep worker ARGS --device D` for each device and waits for all to end; a signal goes to each.
 * @param args a worker's own arguments, by its device and the number of them, without `--device`
 * @returns 0 when all of them ended well, else the first other code
 */
export async function runWorkerFleet(
  flag: DevicesFlag,
  engine: EngineName | 'auto',
  args: (device: string, numDevices: number) => readonly string[],
): Promise<number> {
  const devices = await devicesFor(flag, engine);
  const workers = devices.map((device) =>
    startLocalProcess(`device ${device}`, ['worker', ...args(device, devices.length)], {}, (line) =>
      process.stderr.write(`[device ${device}] ${line}\n`),
    ),
  );
  const release = passOnSignals(workers);
  const codes = await Promise.all(
    workers.map(async (worker) => {
      const { code } = await worker.ended;
      if (code !== 0)
        warn(`the worker on ${worker.name} ended with code ${code ?? 'none'}; the others go on`);
      return code ?? 1;
    }),
  );
  release();
  return codes.find((code) => code !== 0) ?? 0;
}

function passOnSignals(workers: readonly LocalProcess[]): () => void {
  const pass = (signal: NodeJS.Signals) => {
    for (const worker of workers) worker.kill(signal);
  };
  process.on('SIGINT', pass);
  process.on('SIGTERM', pass);
  return () => {
    process.off('SIGINT', pass);
    process.off('SIGTERM', pass);
  };
}
