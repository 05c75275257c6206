/** PyTorch on the same card, where a torch with CUDA is installed; it is not fetched for this. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../base/index.ts';
import type { ModelConfig } from '../../config/index.ts';

const PEER = fileURLToPath(new URL('../../../bench/peers/elmer_gpu.py', import.meta.url));
const LIMIT_MS = 15 * 60_000;

export type TorchFigures =
  | {
      readonly version: string;
      readonly device: string;
      readonly figures: readonly {
        readonly precision: 'float32' | 'bfloat16';
        readonly batchSize: number;
        readonly tokensPerSecond: number;
        readonly peakBytes: number;
      }[];
    }
  | { readonly reason: string };

export function measureTorch(work: {
  readonly model: ModelConfig;
  readonly tokens: number;
  readonly repeats: number;
  readonly rows: readonly number[];
}): Promise<TorchFigures> {
  return new Promise((resolve) => {
    execFile('python3', [PEER, JSON.stringify(work)], { timeout: LIMIT_MS }, (error, stdout, stderr) => {
      if (error !== null) {
        resolve({ reason: stderr.trim().split('\n').at(-1) || messageOf(error) });
        return;
      }
      // Written by the peer, whose fields are these.
      resolve(JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as TorchFigures);
    });
  });
}
