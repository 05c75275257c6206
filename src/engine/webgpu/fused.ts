/** What a file of fused kernels offers: functions by the keys of base/fused-kernels.ts, over the recorder. */
import type { TensorInfo } from '@tensorflow/tfjs';
import type { FusedKernelKey } from '../../base/index.ts';
import type { Recorder } from './recorder.ts';

export type FusedKernels = Readonly<
  Partial<
    Record<
      FusedKernelKey,
      (
        recorder: Recorder,
        inputs: Readonly<Record<string, TensorInfo | undefined>>,
        attributes: Readonly<Record<string, number>>,
      ) => TensorInfo[]
    >
  >
>;
