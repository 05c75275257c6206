export { type Article, DROP_REASONS, type DropReason } from './article.ts';
export { KEEPABLE, type Keepable } from './clean/index.ts';
export { type BlockSource, DATA_BLOCK_BYTES, DIGEST_BYTES } from './data-blocks.ts';
export { Dataset, type OpenDatasetOptions, openDataset } from './dataset.ts';
export {
  ByteSource,
  DUMPS_URL,
  describeRemote,
  download,
  findInputs,
  INPUT_FORMATS,
  type InputFormat,
  newestDump,
  type RemoteFile,
  readLines,
} from './input/index.ts';
export {
  type Inspection,
  inspectDataset,
  type LengthBin,
  lengthBins,
  type NoisedSample,
  type SpelledPiece,
} from './inspection.ts';
export { KeyedPermutation } from './keyed-permutation.ts';
export { MANIFEST_FILE, type Manifest, type PrepareReport, TOKENIZER_FILE } from './manifest.ts';
export {
  type MicroBatch,
  type MicroBatchKey,
  microBatch,
  type SamplePlace,
  samplePlace,
  sampleSpecOf,
  validationBatch,
} from './micro-batch.ts';
export { addNoise } from './noise.ts';
export { type CutCounts, countCuts, settledDataConfig } from './pair-settings.ts';
export {
  PAIR_FIELDS,
  type PairFields,
  type PreparedPairs,
  type PreparePairsOptions,
  preparePairs,
} from './pairs/index.ts';
export {
  JobSite,
  PREPARE_PHASES,
  type PreparedDataset,
  type PrepareJob,
  type PrepareOptions,
  type PrepareProgress,
  prepareDataset,
  type RunJobs,
  runHere,
  WorkFolder,
} from './prepare/index.ts';
export { openRemoteDataset, type RemoteDatasetOptions } from './remote-dataset.ts';
export type { SampleCounts, SampleSpec, SampleTable, TokenRange } from './samples.ts';
export { ServedDataset } from './served-dataset.ts';
export { documentHash, type Split, splitOf } from './split.ts';
export { type TokenKinds, tokenKindsOf } from './token-kinds.ts';
export {
  BOS_ID,
  BpeTokenizer,
  EOS_ID,
  loadTokenizer,
  MASK_TOKEN,
  type Merge,
  PAD_ID,
  tokenizerFromJson,
  tokenizerToJson,
  trainBpe,
  UNK_ID,
  VOCAB_SIZE_MAX,
  VOCAB_SIZE_MIN,
  WordCounter,
} from './tokenizer/index.ts';
export { Samples, type TrainingData } from './training-data.ts';
