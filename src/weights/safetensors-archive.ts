/** A safetensors file of others, with numbers of any type: see tensor-archive.ts. */
import { parseTensorIndex, readHeaderBytes } from '../checkpoint/index.ts';
import { openToRead } from '../storage/index.ts';
import { TensorArchive, type TensorType, TYPE_BYTES } from './tensor-archive.ts';

/** Throws DATA_MISSING when there is no such file, CHECKPOINT_INVALID when its header is damaged or it is cut short. */
export async function openSafetensors(path: string): Promise<TensorArchive> {
  const handle = await openToRead(path);
  try {
    const { size } = await handle.stat();
    const prefix = await readHeaderBytes(handle, size, path);
    const { tensors, dataStart } = parseTensorIndex(prefix, size, path, TYPE_BYTES);
    const stored = tensors.map(({ name, type, shape, first }) => ({
      // Only the types that were given are let through.
      ...{ name, type: type as TensorType, shape },
      position: dataStart + first,
    }));
    return new TensorArchive(path, 'safetensors', stored, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}
