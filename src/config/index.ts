export { type Deadlines, deadlinesFrom } from './deadlines.ts';
export { type ConfigSources, type ConfigTree, readConfigFile, resolveConfig } from './load.ts';
export { PRESETS } from './presets.ts';
export {
  type BitDeciding,
  bitDecidingPart,
  type CheckpointConfig,
  canonicalJson,
  type DataConfig,
  ENGINE_NAMES,
  type EngineName,
  fingerprintOf,
  listDifferences,
  type ModelConfig,
  type NetworkConfig,
  type NoiseConfig,
  type ObjectiveConfig,
  type OptimizerConfig,
  PACKINGS,
  PRESET_NAMES,
  type PresetName,
  type RunConfig,
  runConfigSchema,
  SCHEDULES,
  type StepConfig,
} from './run-config.ts';
