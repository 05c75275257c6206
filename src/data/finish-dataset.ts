/** The last step of making a data set, whatever it is made of: tokenizer and manifest, then everything into place. */
import { createHash } from 'node:crypto';
import {
  isTokenShardFile,
  MANIFEST_VERSION,
  type Manifest,
  manifestText,
  TOKENIZER_FILE,
} from './manifest.ts';
import type { StagedFolder } from './staged-folder.ts';
import { idBytesFor, type WrittenShards } from './token-shard.ts';
import { BOS_ID, type BpeTokenizer, EOS_ID, PAD_ID, tokenizerToJson, UNK_ID } from './tokenizer/index.ts';

export interface FinishedDataset {
  /** SHA-256 (hex) of the manifest: the data set's identity. */
  readonly sha256: string;
  /** Its `report` says what was read, kept and dropped. */
  readonly manifest: Manifest;
}

/** Replaces the data set that lies in the folder, if any. Throws DISK_FULL. */
export function finishDataset(
  folder: StagedFolder,
  tokenizer: BpeTokenizer,
  written: WrittenShards,
  rest: Pick<Manifest, 'articleSamples' | 'source' | 'report' | 'pairs'>,
): FinishedDataset {
  const { vocabSize } = tokenizer;
  const { articleSamples, source, report, pairs } = rest;
  const manifest: Manifest = {
    format: 'lockstep-dataset',
    version: MANIFEST_VERSION,
    tokenizer: folder.write(TOKENIZER_FILE, tokenizerToJson(tokenizer)),
    vocabSize,
    specialIds: { bos: BOS_ID, pad: PAD_ID, eos: EOS_ID, unk: UNK_ID, mask: tokenizer.maskId },
    idBytes: idBytesFor(vocabSize),
    tokens: written.tokens,
    documents: written.documents,
    documentIndex: written.documentIndex,
    documentHashes: written.documentHashes,
    articleSamples,
    shards: [...written.shards],
    source,
    report,
    ...(pairs === undefined ? {} : { pairs }),
  };
  const text = manifestText(manifest);
  folder.commit(text, isTokenShardFile);
  return { sha256: createHash('sha256').update(text).digest('hex'), manifest };
}
