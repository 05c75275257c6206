export type { DropoutMasks, SlotKey } from './dropout.ts';
export { drawExitLayers } from './exit-layers.ts';
export { initializeParameters, leftIdentity } from './initialization.ts';
export type { SourceBatch, SpecialIds } from './micro-batch.ts';
export { buildTree, type ParameterTree, parameterLayout, treeOf } from './parameters.ts';
export {
  createTrainingModel,
  type GradientResult,
  type TrainingModel,
  type TrainingModelOptions,
} from './training-model.ts';
