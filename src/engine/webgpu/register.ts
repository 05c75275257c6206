/** The webgpu engine's own kernels in tfjs's registry, under the names by which the model asks for them. */
import type * as tfjs from '@tensorflow/tfjs';
import { type FusedKernelKey, fusedKernelName } from '../../base/index.ts';
import { addRowsKernels } from './add-rows.ts';
import { attentionKernels } from './attention.ts';
import type { WatchedBackend } from './backend.ts';
import { crossEntropyKernels } from './cross-entropy.ts';
import type { FusedKernels } from './fused.ts';
import { geluKernels } from './gelu.ts';
import { layerNormKernels } from './layer-norm.ts';
import { linearKernels } from './linear.ts';
import { vocabularyHeadKernels } from './vocabulary-head.ts';

const KERNELS: FusedKernels = {
  ...linearKernels,
  ...layerNormKernels,
  ...geluKernels,
  ...attentionKernels,
  ...crossEntropyKernels,
  ...vocabularyHeadKernels,
  ...addRowsKernels,
};

/** Registers the fused kernels, once in a process however often a device is started. */
export function registerFusedKernels(tf: typeof tfjs): void {
  for (const [key, kernel] of Object.entries(KERNELS)) {
    const kernelName = fusedKernelName(key as FusedKernelKey);
    if (tf.getKernel(kernelName, 'webgpu') !== undefined) continue;
    tf.registerKernel({
      kernelName,
      backendName: 'webgpu',
      // The kernel registry types arguments of all kernels alike.
      kernelFunc: ({ inputs, attrs, backend }) =>
        kernel(
          (backend as WatchedBackend).recorder,
          inputs as Record<string, tfjs.TensorInfo>,
          (attrs ?? {}) as unknown as Record<string, number>,
        ),
    });
  }
}
