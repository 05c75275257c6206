/** A file of `torch.save`, in its present or its old container: see tensor-archive.ts. */
import { readAll } from '../checkpoint/index.ts';
import { openToRead } from '../storage/index.ts';
import { TensorArchive } from './tensor-archive.ts';
import { readTorchLegacy } from './torch-legacy.ts';
import { invalid } from './torch-tensors.ts';
import { readTorchZip } from './torch-zip.ts';

const ZIP_MAGIC = 'PK\x03\x04';

/** Throws DATA_MISSING when there is no such file, CHECKPOINT_INVALID for one that is damaged or holds other things. */
export async function openTorchFile(path: string): Promise<TensorArchive> {
  const handle = await openToRead(path);
  try {
    const { size } = await handle.stat();
    if (size < ZIP_MAGIC.length) throw invalid(path, `has ${size} bytes, too few for weights`);
    const magic = Buffer.alloc(ZIP_MAGIC.length);
    await readAll(handle, magic, 0, path);
    const isZip = magic.toString('latin1') === ZIP_MAGIC;
    const tensors = isZip ? await readTorchZip(handle, path) : await readTorchLegacy(handle, path);
    return new TensorArchive(
      path,
      isZip ? 'pickle in a zip file' : 'pickle of PyTorch before 1.6',
      tensors,
      handle,
    );
  } catch (error) {
    await handle.close();
    throw error;
  }
}
