/** What an engine says of its device when it computes on the CPU: it does not get lost, and memory is the system's. */
import type { Engine, LoadedBackend } from './engine.ts';

/** The way that every backend has: an array of its own, then a copy. */
export const readByCopy: Engine['readInto'] = async (tensor, target) => {
  // The model's tensors are float32 but for indices, which are not read so.
  target.set((await tensor.data()) as Float32Array);
};

export const ON_THE_CPU: Pick<
  LoadedBackend,
  'readInto' | 'readsBeside' | 'deviceSums' | 'tensorBytesMax' | 'troubleOf' | 'restart'
> = {
  readInto: readByCopy,
  readsBeside: false,
  deviceSums: async () => null,
  tensorBytesMax: Number.POSITIVE_INFINITY,
  troubleOf: () => null,
  restart: async () => {},
};
