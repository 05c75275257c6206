/** What `--from` names, as the start of a run: checked against its model and its data set. */
import { LockstepError } from '../base/index.ts';
import type { ModelConfig } from '../config/index.ts';
import type { StartWeights } from '../coordinator/index.ts';
import type { BpeTokenizer } from '../data/index.ts';
import { sha256OfWeights, type WeightsSource, weightsFor } from '../weights/index.ts';
import { lockstepVersion } from './version.ts';

/** Given otherwise, weights of these sizes cannot be used; dropouts may differ. */
const SIZES = [
  ...['dModel', 'encoderLayers', 'decoderLayers', 'heads', 'ffnDim', 'maxPositions'],
  'concatHead',
] as (keyof ModelConfig)[];

export interface StartingPoint {
  readonly source: WeightsSource;
  readonly weights: StartWeights;
  /** Of the flat parameter vector. */
  readonly sha256: string;
  /** One line each. */
  readonly notices: readonly string[];
}

/** Reads the weights once, for their SHA-256. */
export async function startFrom(source: WeightsSource, model: ModelConfig): Promise<StartingPoint> {
  const weights = weightsFor(source, model);
  const notices = [...source.notices];
  if (model.concatHead && !source.model.concatHead) {
    notices.push(
      `${source.path} has no concat_head.weight: it starts as [I | 0], which hands states on as they are`,
    );
  }
  const sha256 = await sha256OfWeights(weights);
  return { source, weights: { ...weights, version: lockstepVersion() }, sha256, notices };
}

/** Throws CONFIG_MISMATCH listing the sizes that were asked for and are not those of the weights. */
export function requireSameSizes({ path, model: own }: WeightsSource, model: ModelConfig): void {
  // A head that is missing can be added.
  const differing = SIZES.filter(
    (name) => own[name] !== model[name] && !(name === 'concatHead' && model[name]),
  );
  if (differing.length === 0) return;
  const listed = differing.map((name) => `model.${name}: ${model[name]} asked for, ${own[name]} there`);
  throw new LockstepError(
    'CONFIG_MISMATCH',
    `--from ${path}: its model has other sizes (${listed.join('; ')}): leave these settings out to take those of the weights`,
  );
}

/** Throws CONFIG_MISMATCH when the ids of the data set mean other tokens than those of the weights. */
export function requireSameTokens(source: WeightsSource, tokenizer: BpeTokenizer, data: string): void {
  const { path, model, tokenizer: own } = source;
  const remedy = `prepare the data set with the tokenizer of the weights, --tokenizer ${path}`;
  if (model.vocabSize !== tokenizer.vocabSize) {
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `--from ${path}: its model has ${model.vocabSize} tokens, but the data set ${data} has ${tokenizer.vocabSize}: ${remedy}`,
    );
  }
  if (own === null) return;
  const id = own.tokens.findIndex((token, index) => token !== tokenizer.tokens[index]);
  if (id === -1) return;
  throw new LockstepError(
    'CONFIG_MISMATCH',
    `--from ${path}: token ${id} is ${JSON.stringify(own.tokens[id])} there, but ${JSON.stringify(tokenizer.tokens[id])} in the data set ${data}: ${remedy}`,
  );
}
