/**
 * The parameters of ELMER as an explicit tree, and where each of its leaves lies in the flat vector.
 *
 * Invariants: one function visits the leaves, so tree, layout and initialization share one order,
 * which is that of the Hugging Face BART state dictionary (ELMER.md section 7): the tied table
 * first, then encoder and decoder, each as positions, layers, embedding norm. `final_logits_bias`
 * is a zero buffer there and no parameter here. `concat_head` comes last. Linear weights are [out, in].
 */
import { assert, LockstepError, layoutOf, type ParameterLayout } from '../base/index.ts';
import type { ModelConfig } from '../config/index.ts';

/** A linear map or the gain and offset of a layer norm. */
export interface Affine<Leaf> {
  readonly weight: Leaf;
  readonly bias: Leaf;
}

export interface AttentionParameters<Leaf> {
  readonly k: Affine<Leaf>;
  readonly v: Affine<Leaf>;
  readonly q: Affine<Leaf>;
  readonly out: Affine<Leaf>;
}

export interface EncoderLayerParameters<Leaf> {
  readonly selfAttention: AttentionParameters<Leaf>;
  readonly selfAttentionNorm: Affine<Leaf>;
  readonly fc1: Affine<Leaf>;
  readonly fc2: Affine<Leaf>;
  readonly finalNorm: Affine<Leaf>;
}

export interface DecoderLayerParameters<Leaf> extends EncoderLayerParameters<Leaf> {
  readonly crossAttention: AttentionParameters<Leaf>;
  readonly crossAttentionNorm: Affine<Leaf>;
}

export interface StackParameters<Leaf, Layer> {
  /** [maxPositions + 2, D]; the row of position p is p + 2. */
  readonly positions: Leaf;
  readonly layers: readonly Layer[];
  readonly embeddingNorm: Affine<Leaf>;
}

export interface ParameterTree<Leaf> {
  /** The tied table [V, D]: encoder and decoder input embedding and the off-ramp of every layer. */
  readonly shared: Leaf;
  readonly encoder: StackParameters<Leaf, EncoderLayerParameters<Leaf>>;
  readonly decoder: StackParameters<Leaf, DecoderLayerParameters<Leaf>>;
  /**
   * [D, 2D], without bias: from (state, embedding of the predicted token) to the next layer's input; one
   * for all layers (ELMER.md section 2). Null where `model.concatHead` is false.
   */
  readonly concatHead: Leaf | null;
}

/**
 * What a tensor holds before the first step. `leftIdentity` is [I | 0]: a concat head that hands the state on
 * as it is, so that fine-tuning does not begin by destroying it (ELMER.md section 10, defect 7).
 */
export type StartValue = 'normal' | 'zeros' | 'ones' | 'leftIdentity';

/** BART leaves the first two rows of each position table unused. */
export const POSITION_OFFSET = 2;

/** Builds the tree by asking for each leaf, in layout order. */
export function buildTree<Leaf>(
  model: ModelConfig,
  leaf: (name: string, shape: readonly number[], start: StartValue) => Leaf,
): ParameterTree<Leaf> {
  const { dModel, ffnDim, vocabSize } = model;

  const linear = (name: string, out: number, input: number): Affine<Leaf> => ({
    weight: leaf(`${name}.weight`, [out, input], 'normal'),
    bias: leaf(`${name}.bias`, [out], 'zeros'),
  });
  const norm = (name: string): Affine<Leaf> => ({
    weight: leaf(`${name}.weight`, [dModel], 'ones'),
    bias: leaf(`${name}.bias`, [dModel], 'zeros'),
  });
  const attention = (name: string): AttentionParameters<Leaf> => ({
    k: linear(`${name}.k_proj`, dModel, dModel),
    v: linear(`${name}.v_proj`, dModel, dModel),
    q: linear(`${name}.q_proj`, dModel, dModel),
    out: linear(`${name}.out_proj`, dModel, dModel),
  });
  const feedForward = (name: string) => ({
    fc1: linear(`${name}.fc1`, ffnDim, dModel),
    fc2: linear(`${name}.fc2`, dModel, ffnDim),
    finalNorm: norm(`${name}.final_layer_norm`),
  });
  const selfAttention = (name: string) => ({
    selfAttention: attention(`${name}.self_attn`),
    selfAttentionNorm: norm(`${name}.self_attn_layer_norm`),
  });
  const encoderLayer = (name: string): EncoderLayerParameters<Leaf> => ({
    ...selfAttention(name),
    ...feedForward(name),
  });
  const decoderLayer = (name: string): DecoderLayerParameters<Leaf> => ({
    ...selfAttention(name),
    crossAttention: attention(`${name}.encoder_attn`),
    crossAttentionNorm: norm(`${name}.encoder_attn_layer_norm`),
    ...feedForward(name),
  });
  const stack = <Layer>(name: string, numLayers: number, layer: (name: string) => Layer) => ({
    positions: leaf(
      `${name}.embed_positions.weight`,
      [model.maxPositions + POSITION_OFFSET, dModel],
      'normal',
    ),
    layers: Array.from({ length: numLayers }, (_, index) => layer(`${name}.layers.${index}`)),
    embeddingNorm: norm(`${name}.layernorm_embedding`),
  });

  return {
    shared: leaf('model.shared.weight', [vocabSize, dModel], 'normal'),
    encoder: stack('model.encoder', model.encoderLayers, encoderLayer),
    decoder: stack('model.decoder', model.decoderLayers, decoderLayer),
    concatHead: model.concatHead ? leaf('concat_head.weight', [dModel, 2 * dModel], 'leftIdentity') : null,
  };
}

/** Where each tensor of the model lies in the flat vector. Throws CONFIG_INVALID while `vocabSize` is open. */
export function parameterLayout(model: ModelConfig): ParameterLayout {
  requireVocabulary(model);
  const tensors: { name: string; shape: readonly number[] }[] = [];
  buildTree(model, (name, shape) => tensors.push({ name, shape }));
  return layoutOf(tensors);
}

/** The tree whose leaves are values given in layout order. */
export function treeOf<Leaf>(model: ModelConfig, leaves: readonly Leaf[]): ParameterTree<Leaf> {
  let next = 0;
  const tree = buildTree(model, (name) => {
    const leaf = leaves[next];
    assert(leaf !== undefined, `no leaf for ${name}`);
    next += 1;
    return leaf;
  });
  assert(next === leaves.length, `${leaves.length} leaves for a tree of ${next}`);
  return tree;
}

export function requireVocabulary(model: ModelConfig): void {
  if (model.vocabSize > 0) return;
  throw new LockstepError(
    'CONFIG_INVALID',
    'model.vocabSize is 0; take it from the tokenizer of the data set before building the model',
    { context: { field: 'model.vocabSize', value: model.vocabSize } },
  );
}
