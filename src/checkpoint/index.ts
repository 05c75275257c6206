export type { CheckpointFacts, CheckpointManifest } from './manifest.ts';
export { type CheckpointReader, openCheckpoint } from './reader.ts';
export {
  encodeTensorHeader,
  FLOAT_BYTES,
  parseTensorHeader,
  parseTensorIndex,
  type TensorHeader,
  type TensorMetadata,
} from './safetensors.ts';
export {
  type CheckpointListing,
  findNewestValid,
  listCheckpoints,
  type NewestValid,
  type RejectedCheckpoint,
} from './search.ts';
export { checkpointName } from './sections.ts';
export { CheckpointStore } from './store.ts';
export { readAll, readHeaderBytes, TensorFile } from './tensor-file.ts';
export type { CheckpointWriter } from './writer.ts';
