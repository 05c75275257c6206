/**
 * The container that `torch.save` wrote before PyTorch 1.6, as for facebook/bart-base: pickles one after the
 * other (a magic number, the version, facts of the system, the state dictionary, the keys of its storages), then
 * each storage as the count of its numbers (u64) and the numbers.
 */
import type { FileHandle } from 'node:fs/promises';
import { readAll } from '../checkpoint/index.ts';
import { type PickleDictionary, unpickle } from './pickle.ts';
import type { StoredTensor } from './tensor-archive.ts';
import {
  invalid,
  type Storage,
  type StoragePlace,
  stateTensors,
  torchPickleReader,
} from './torch-tensors.ts';
import { PICKLE_BYTES_MAX } from './torch-zip.ts';

const MAGIC = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;
const COUNT_BYTES = 8;

/** Reads what tensors the file holds; the handle stays open. Throws CHECKPOINT_INVALID. */
export async function readTorchLegacy(handle: FileHandle, path: string): Promise<StoredTensor[]> {
  const { size: fileBytes } = await handle.stat();
  const bytes = new Uint8Array(Math.min(fileBytes, PICKLE_BYTES_MAX));
  await readAll(handle, bytes, 0, path);
  const storages = new Map<string, Storage>();
  const reader = torchPickleReader(path, storages);
  let end = 0;
  const next = () => {
    const pickled = unpickle(bytes, end, reader);
    end = pickled.end;
    return pickled.value;
  };
  // The first byte of every such file; without it there is no pickle to find fault with.
  if (bytes[0] !== 0x80 || next() !== MAGIC) throw invalid(path, 'is no file of torch.save');
  const version = next();
  if (version !== VERSION)
    throw invalid(path, `is of version ${String(version)} of torch.save, not ${VERSION}`);
  const system = next();
  if (!(system instanceof Map) || (system as PickleDictionary).get('little_endian') !== true) {
    throw invalid(path, 'does not say that its byte order is little');
  }
  const state = next();
  const keys = next();
  if (!Array.isArray(keys)) throw invalid(path, 'lists no storages');
  const places = new Map<string, StoragePlace>();
  const count = new Uint8Array(COUNT_BYTES);
  for (const key of keys) {
    const storage = storages.get(key);
    if (storage === undefined)
      throw invalid(path, `lists storage ${JSON.stringify(key)}, which no tensor is in`);
    if (end + COUNT_BYTES + storage.bytes > fileBytes) {
      throw invalid(path, `is cut short: ${fileBytes} bytes, and storage ${JSON.stringify(key)} ends beyond`);
    }
    await readAll(handle, count, end, path);
    const numbers = new DataView(count.buffer).getBigUint64(0, true);
    if (numbers !== BigInt(storage.size)) {
      throw invalid(path, `storage ${JSON.stringify(key)} has ${numbers} numbers instead of ${storage.size}`);
    }
    places.set(storage.key, { position: end + COUNT_BYTES, bytes: storage.bytes });
    end += COUNT_BYTES + storage.bytes;
  }
  return stateTensors(state, places, path);
}
