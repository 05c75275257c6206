/** What an engine says of its device when it computes on the CPU: it does not get lost, and memory is the system's. */
import type { LoadedBackend } from './engine.ts';

export const ON_THE_CPU: Pick<LoadedBackend, 'readsBeside' | 'tensorBytesMax' | 'troubleOf' | 'restart'> = {
  readsBeside: false,
  tensorBytesMax: Number.POSITIVE_INFINITY,
  troubleOf: () => null,
  restart: async () => {},
};
