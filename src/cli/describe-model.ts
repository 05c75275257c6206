/** A model's sizes on one line. */
import type { ModelConfig } from '../config/index.ts';
import { formatCount } from './terminal.ts';

export function describeModel(model: ModelConfig, parameters: number): string {
  const { encoderLayers, decoderLayers, dModel, heads, vocabSize, maxPositions, concatHead } = model;
  return (
    `${formatCount(parameters)} parameters: ${encoderLayers} + ${decoderLayers} layers, width ${dModel}, ${heads} heads, ` +
    `${formatCount(vocabSize)} tokens, ${formatCount(maxPositions)} positions${concatHead ? ', concat head' : ''}`
  );
}
