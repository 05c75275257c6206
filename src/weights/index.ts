export { type FlatWeights, sha256OfWeights } from './flat-weights.ts';
export { ModelFolder } from './model-folder.ts';
export { openWeights, type WeightsSource, weightsFor } from './source.ts';
export { requireVacant, writeModelFolder } from './write-model-folder.ts';
