/**
 * The container that `torch.save` writes since PyTorch 1.6: a zip file of stored entries. `data.pkl` holds the
 * state dictionary, `data/KEY` the numbers of each storage, `byteorder` how they are written.
 */
import type { FileHandle } from 'node:fs/promises';
import { type Entry, fromFdPromise, type ZipFile } from 'yauzl';
import { messageOf } from '../base/index.ts';
import { readAll } from '../checkpoint/index.ts';
import { unpickle } from './pickle.ts';
import type { StoredTensor } from './tensor-archive.ts';
import {
  invalid,
  type Storage,
  type StoragePlace,
  stateTensors,
  torchPickleReader,
} from './torch-tensors.ts';

/** The state dictionary of a model with a thousand layers takes 2 MiB. */
export const PICKLE_BYTES_MAX = 16 * 1024 * 1024;
const ENTRIES_MAX = 100_000;
const PICKLE_ENTRY = /^((?:[^/]+\/)?)data\.pkl$/;
const STORED = 0;

/** Reads what tensors the file holds; the handle stays open. Throws CHECKPOINT_INVALID. */
export async function readTorchZip(handle: FileHandle, path: string): Promise<StoredTensor[]> {
  const { zip, entries } = await listEntries(handle, path);
  const [pickled, folder] = findPickle(entries, path);
  if (pickled.uncompressedSize > PICKLE_BYTES_MAX) {
    throw invalid(path, `data.pkl has ${pickled.uncompressedSize} bytes, far more than weights need`);
  }
  const byteOrder = entries.get(`${folder}byteorder`);
  if (byteOrder !== undefined) {
    const order = new TextDecoder().decode(await readEntry(zip, byteOrder, handle, path, 16));
    if (order !== 'little') throw invalid(path, `its byte order is ${JSON.stringify(order)}, not little`);
  }
  const storages = new Map<string, Storage>();
  const bytes = await readEntry(zip, pickled, handle, path, PICKLE_BYTES_MAX);
  const { value } = unpickle(bytes, 0, torchPickleReader(path, storages));
  const places = new Map<string, StoragePlace>();
  for (const key of storages.keys()) {
    const entry = entries.get(`${folder}data/${key}`);
    if (entry !== undefined) places.set(key, await placeOf(zip, entry, path));
  }
  return stateTensors(value, places, path);
}

async function listEntries(handle: FileHandle, path: string) {
  try {
    // The handle stays ours: whoever reads the tensors closes it.
    const zip = await fromFdPromise(handle.fd, { lazyEntries: true, autoClose: false });
    if (zip.entryCount > ENTRIES_MAX) throw new Error(`it has ${zip.entryCount} entries`);
    const entries = new Map<string, Entry>();
    for await (const entry of zip.eachEntry()) entries.set(entry.fileName, entry);
    return { zip, entries };
  } catch (error) {
    throw invalid(path, `is no whole zip file (${messageOf(error)})`, error);
  }
}

function findPickle(entries: ReadonlyMap<string, Entry>, path: string): [Entry, string] {
  for (const [name, entry] of entries) {
    const folder = PICKLE_ENTRY.exec(name)?.[1];
    if (folder !== undefined) return [entry, folder];
  }
  throw invalid(path, 'is a zip file without data.pkl, so none of torch.save');
}

async function readEntry(zip: ZipFile, entry: Entry, handle: FileHandle, path: string, bytesMax: number) {
  const { position, bytes } = await placeOf(zip, entry, path);
  const content = new Uint8Array(Math.min(bytes, bytesMax));
  await readAll(handle, content, position, path);
  return content;
}

async function placeOf(zip: ZipFile, entry: Entry, path: string): Promise<StoragePlace> {
  const { fileName, compressionMethod, uncompressedSize: bytes } = entry;
  if (compressionMethod !== STORED || entry.isEncrypted()) {
    throw invalid(path, `entry ${fileName} is compressed or encrypted, as torch.save writes none`);
  }
  try {
    const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true });
    return { position: fileDataStart, bytes };
  } catch (error) {
    throw invalid(path, `entry ${fileName} is damaged (${messageOf(error)})`, error);
  }
}
