/**
 * Writes documents as token shards: flat little-endian ids (u16 while the vocabulary allows, else
 * u32), end to end, one index of document lengths and one of document hashes. A shard is closed at the first document end
 * past the wanted size, so no document spans two.
 */
import { endianness } from 'node:os';
import { assert } from '../base/index.ts';
import { DOCUMENT_HASHES_FILE, DOCUMENTS_FILE, type TokenShard, tokenShardFile } from './manifest.ts';
import type { FileSummary, StagedFile, StagedFolder } from './staged-folder.ts';

export const TOKEN_SHARD_BYTES = 64 * 1024 * 1024;

assert(endianness() === 'LE', 'token shards are read and written as the little-endian machine lays them out');

export const idBytesFor = (vocabSize: number): 2 | 4 => (vocabSize <= 65_536 ? 2 : 4);

export interface WrittenShards {
  readonly shards: readonly TokenShard[];
  readonly documentIndex: FileSummary;
  readonly documentHashes: FileSummary;
  readonly tokens: number;
  readonly documents: number;
}

export class TokenShardWriter {
  readonly #folder: StagedFolder;
  readonly #idBytes: 2 | 4;
  readonly #shardBytes: number;
  readonly #index: StagedFile;
  readonly #hashes: StagedFile;
  readonly #shards: TokenShard[] = [];
  #current: StagedFile | null = null;
  #tokens = 0;
  #documents = 0;

  constructor(folder: StagedFolder, vocabSize: number, shardBytes = TOKEN_SHARD_BYTES) {
    this.#folder = folder;
    this.#idBytes = idBytesFor(vocabSize);
    this.#shardBytes = shardBytes;
    this.#index = folder.create(DOCUMENTS_FILE);
    this.#hashes = folder.create(DOCUMENT_HASHES_FILE);
  }

  /** Appends one document's ids, without `<s>` and `</s>`, and its hash (see split.ts); an empty document is left out. */
  append(ids: ArrayLike<number>, hash: number): void {
    if (ids.length === 0) return;
    this.#current ??= this.#folder.create(tokenShardFile(this.#shards.length));
    const packed = this.#idBytes === 2 ? Uint16Array.from(ids) : Uint32Array.from(ids);
    this.#current.append(new Uint8Array(packed.buffer));
    this.#index.append(new Uint8Array(Uint32Array.of(ids.length).buffer));
    this.#hashes.append(new Uint8Array(Uint32Array.of(hash).buffer));
    this.#tokens += ids.length;
    this.#documents += 1;
    if (this.#current.bytes >= this.#shardBytes) this.#closeShard(this.#current);
  }

  finish(): WrittenShards {
    if (this.#current !== null) this.#closeShard(this.#current);
    const total = (key: 'tokens' | 'documents') => this.#shards.reduce((sum, shard) => sum + shard[key], 0);
    return {
      shards: this.#shards,
      documentIndex: this.#index.finish(),
      documentHashes: this.#hashes.finish(),
      tokens: total('tokens'),
      documents: total('documents'),
    };
  }

  #closeShard(file: StagedFile): void {
    this.#shards.push({ ...file.finish(), tokens: this.#tokens, documents: this.#documents });
    this.#current = null;
    this.#tokens = 0;
    this.#documents = 0;
  }
}
