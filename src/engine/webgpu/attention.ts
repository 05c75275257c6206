/**
 * Multi-head attention whose scores never lie in memory: online softmax (Milakov & Gimelshein 2018), and weights
 * computed again in the gradient from the logarithm of each row's sum of exponentials, which is all that is kept of
 * them (Dao et al., FlashAttention, 2022, algorithms 2 and 4, and appendix B.4 for `along`).
 *
 * The gradients of queries, keys and values are three passes: one that kept all of a key's sums in registers
 * would not fit, and adding into shared sums has no order. A mask of dropped weights is read where it lies.
 */
import type { TensorInfo } from '@tensorflow/tfjs';
import {
  type AttentionVariant,
  eachQuad,
  innerProduct,
  ROWS,
  storeSum,
  tileQuad,
  writeShader,
} from './attention-tiles.ts';
import type { FusedKernels } from './fused.ts';
import type { Operand, Recorder, Shader } from './recorder.ts';

const writers = {
  forward: (variant) =>
    writeShader(variant, {
      name: 'attention',
      owned: 'queries',
      tiled: ['key', 'value'],
      held: ['query'],
      statistics: [],
      outputs: ['context', 'logSum'],
      before: `
  // Below any score, a masked one's too.
  var largest = -1e30;
  var total = 0.0;`,
      each: `
      let score = scoreOf(${innerProduct(variant, 'query', 'key')}, batch, query, key);
      if (score > largest) {
        let shrink = exp(largest - score);
        ${eachQuad(variant, (quad) => `sum_${quad} *= shrink;`)}
        total *= shrink;
        largest = score;
      }
      let exponential = exp(score - largest);
      total += exponential;
      let kept = exponential * maskOf(batch, head, query, key);
      ${eachQuad(variant, (quad) => `sum_${quad} += kept * ${tileQuad('value', quad)};`)}`,
      after: `
  ${storeSum(variant, 'context', '(1.0 / total)')}
  logSum[ofRow] = largest + log(total);`,
    }),
  ofQuery: (variant) =>
    writeShader(variant, {
      name: 'attention gradient of queries',
      owned: 'queries',
      tiled: ['key', 'value'],
      held: ['query', 'dContext'],
      statistics: ['logSum', 'along'],
      outputs: ['dQuery'],
      each: `
      let weight = exp(scoreOf(${innerProduct(variant, 'query', 'key')}, batch, query, key) - logSum[ofQuery]);
      let dWeight = ${innerProduct(variant, 'dContext', 'value')} * maskOf(batch, head, query, key);
      let dScore = weight * (dWeight - along[ofQuery]);
      ${eachQuad(variant, (quad) => `sum_${quad} += dScore * ${tileQuad('key', quad)};`)}`,
      after: storeSum(variant, 'dQuery', 'sizes.scale'),
    }),
  ofKey: (variant) =>
    writeShader(variant, {
      name: 'attention gradient of keys',
      owned: 'keys',
      tiled: ['query', 'dContext'],
      held: ['key', 'value'],
      statistics: ['logSum', 'along'],
      outputs: ['dKey'],
      each: `
      let weight = exp(scoreOf(${innerProduct(variant, 'key', 'query')}, batch, query, key) - logSum[ofQuery]);
      let dWeight = ${innerProduct(variant, 'value', 'dContext')} * maskOf(batch, head, query, key);
      let dScore = weight * (dWeight - along[ofQuery]);
      ${eachQuad(variant, (quad) => `sum_${quad} += dScore * ${tileQuad('query', quad)};`)}`,
      after: storeSum(variant, 'dKey', 'sizes.scale'),
    }),
  ofValue: (variant) =>
    writeShader(variant, {
      name: 'attention gradient of values',
      owned: 'keys',
      tiled: ['query', 'dContext'],
      held: ['key'],
      statistics: ['logSum'],
      outputs: ['dValue'],
      each: `
      let weight = exp(scoreOf(${innerProduct(variant, 'key', 'query')}, batch, query, key) - logSum[ofQuery]);
      let kept = weight * maskOf(batch, head, query, key);
      ${eachQuad(variant, (quad) => `sum_${quad} += kept * ${tileQuad('dContext', quad)};`)}`,
      after: storeSum(variant, 'dValue', '1.0'),
    }),
} satisfies Record<string, (variant: AttentionVariant) => Shader>;

const shaders = new Map<string, Shader>();

function shaderFor(which: keyof typeof writers, variant: AttentionVariant): Shader {
  const key = `${which} ${JSON.stringify(variant)}`;
  const shader = shaders.get(key) ?? writers[which](variant);
  shaders.set(key, shader);
  return shader;
}

const ALONG_LANES = 64;
/** The gradient's part along each row of weights: of dContext * context over a head's features. */
const ALONG: Shader = {
  name: 'attention gradient along the weights',
  inputs: ['dContext', 'context'],
  outputs: ['along'],
  sizes: ['count', 'headSize'],
  lanes: ALONG_LANES,
  code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  if (index >= sizes.count) { return; }
  var sum = 0.0;
  for (var at = index * sizes.headSize; at < (index + 1u) * sizes.headSize; at++) {
    sum += dContext[at] * context[at];
  }
  along[index] = sum;
}`,
};

type Tensors = Readonly<Record<string, TensorInfo | undefined>>;

/** What every pass is told, from the operands' shapes. */
function sizesOf({ query, key, keyBias, weightMask }: Tensors, attributes: Readonly<Record<string, number>>) {
  const { batchSize, heads, scale } = attributes as Record<'batchSize' | 'heads' | 'scale', number>;
  const [queries, keys] = [query!.shape[0]! / batchSize, key!.shape[0]! / batchSize];
  const [biasBatches, , biasQueries] = keyBias?.shape ?? [1, 1, 1];
  const variant: AttentionVariant = {
    headSize: query!.shape[1]! / heads,
    hasBias: keyBias !== undefined,
    hasMask: weightMask !== undefined,
  };
  const sizes = {
    ...{ heads, queries, keys, scale },
    biasOfBatch: biasBatches === 1 ? 0 : biasQueries! * keys,
    biasOfQuery: biasQueries === 1 ? 0 : keys,
  };
  const maskFloats = heads * queries * keys;
  const mask = weightMask && { ...weightMask, shape: [batchSize, maskFloats] };
  return { variant, sizes, keyBias, mask, batchSize };
}

/** Runs a pass over all sequences, or as many at a time as the mask allows of which a shader is given a part. */
function runPass(
  recorder: Recorder,
  which: keyof typeof writers,
  operands: Readonly<Record<string, Operand>>,
  { variant, sizes, keyBias, mask, batchSize }: ReturnType<typeof sizesOf>,
): void {
  const shader = shaderFor(which, variant);
  const rows = which === 'forward' || which === 'ofQuery' ? sizes.queries : sizes.keys;
  const ranges = mask === undefined ? [{ first: 0, count: batchSize }] : recorder.rowRanges(mask);
  for (const range of ranges) {
    const { first: firstBatch, count: batches } = range;
    const groups = batches * sizes.heads * Math.ceil(rows / ROWS);
    const additions = { ...(keyBias && { keyBias }), ...('tensor' in range && { weightMask: range }) };
    recorder.run(shader, { ...operands, ...additions }, { ...sizes, firstBatch, batches }, groups);
  }
}

export const attentionKernels: FusedKernels = {
  attention(recorder, inputs, attributes) {
    const { query, key, value } = inputs as Record<string, TensorInfo>;
    const pass = sizesOf(inputs, attributes);
    const context = recorder.create(query!.shape);
    const logSum = recorder.create([query!.shape[0]!, pass.sizes.heads]);
    runPass(recorder, 'forward', { query: query!, key: key!, value: value!, context, logSum }, pass);
    // The gradient reads rows as they lie too.
    return [context, ...[query!, key!, value!].map((rows) => recorder.share(rows)), logSum];
  },

  attentionGradient(recorder, inputs, attributes) {
    const { dContext, context, query, key, value, weights: logSum } = inputs as Record<string, TensorInfo>;
    const pass = sizesOf(inputs, attributes);
    const along = alongWeights(recorder, dContext!, context!, pass.sizes.heads);
    const results = { dQuery: recorder.create(query!.shape), dKey: recorder.create(key!.shape) };
    const dValue = recorder.create(value!.shape);
    const operands = {
      ...{ dContext: dContext!, query: query!, key: key!, value: value!, logSum: logSum!, along },
      ...{ ...results, dValue },
    };
    for (const which of ['ofQuery', 'ofKey', 'ofValue'] as const) runPass(recorder, which, operands, pass);
    recorder.release(along);
    return [results.dQuery, results.dKey, dValue];
  },
};

function alongWeights(
  recorder: Recorder,
  dContext: TensorInfo,
  context: TensorInfo,
  heads: number,
): TensorInfo {
  const [rows, dModel] = context.shape as [number, number];
  const along = recorder.create([rows, heads]);
  const sizes = { count: rows * heads, headSize: dModel / heads };
  recorder.run(ALONG, { dContext, context, along }, sizes, Math.ceil(sizes.count / ALONG_LANES));
  return along;
}
