export type { DropoutMasks, SlotKey } from './dropout.ts';
export { drawExitLayers } from './exit-layers.ts';
export {
  CONFIDENCES,
  type Confidence,
  createGenerationModel,
  type DecodingOptions,
  type EncodedBatch,
  type GenerationModel,
  type GenerationModelOptions,
} from './generation-model.ts';
export { initializeParameters, leftIdentity } from './initialization.ts';
export type { SourceBatch, SpecialIds } from './micro-batch.ts';
export { type DecodedBatch, EXITS, type Exit } from './parallel-decoder.ts';
export { buildTree, type ParameterTree, parameterLayout, treeOf } from './parameters.ts';
export type { DecodedSequence, DecodedToken } from './slot-exits.ts';
export {
  createTrainingModel,
  type DeviceGradientResult,
  type GradientResult,
  type TrainingModel,
  type TrainingModelOptions,
} from './training-model.ts';
