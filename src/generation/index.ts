export { type ModelSource, openModelSource } from './model-source.ts';
export {
  GENERATION_DEFAULTS,
  type GeneratedText,
  type GeneratedToken,
  type GenerationOptions,
  generationDefaults,
  generationOptionsSchema,
} from './options.ts';
export { removeRepeats } from './remove-repeats.ts';
export { type GeneratorFacts, type OpenGeneratorOptions, TextGenerator } from './text-generator.ts';
export { tokenTexts } from './token-texts.ts';
