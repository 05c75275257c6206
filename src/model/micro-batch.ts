/** What the model reads of a micro-batch, and the ids of the tokens that it reads or writes itself. */
import type { MicroBatch } from '../data/index.ts';

/** The part of a micro-batch that the encoder reads; enough to generate from. */
export type SourceBatch = Pick<MicroBatch, 'batchSize' | 'sourceLength' | 'sourceIds' | 'sourceLengths'>;

export interface SpecialIds {
  readonly bos: number;
  readonly pad: number;
  readonly eos: number;
  readonly mask: number;
}
