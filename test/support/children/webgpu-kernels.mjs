// The webgpu engine's own kernels against the plain form: values and gradients of the model's operations on WebGPU,
// and by automatic differentiation of core ops on tfjs's CPU backend. Argument: folder of the compiled source.
// Prints one JSON line.
import { errorOf, sameBits } from './compare-floats.mjs';

const [source] = process.argv.slice(2);
const { PhiloxRng } = await import(`${source}/base/index.js`);
const { loadEngine } = await import(`${source}/engine/index.js`);
const { attention } = await import(`${source}/model/attention.js`);
const { argMaxTokens, crossEntropySum, crossEntropySumOnly } = await import(
  `${source}/model/cross-entropy.js`
);
const { crossEntropyKernels } = await import(`${source}/engine/webgpu/cross-entropy.js`);
const { layerNormKernels } = await import(`${source}/engine/webgpu/layer-norm.js`);
const { product, TILES } = await import(`${source}/engine/webgpu/product.js`);
const { vocabularyHeadKernels } = await import(`${source}/engine/webgpu/vocabulary-head.js`);
const { Recorder } = await import(`${source}/engine/webgpu/recorder.js`);
const { differentiable, gradients } = await import(`${source}/model/differentiable.js`);
const { gelu, layerNorm, linear } = await import(`${source}/model/layers.js`);
const { RowBlocks, wholeBatch } = await import(`${source}/model/sequence-blocks.js`);

// Of a table of 75 x 6 floats a shader is given a part at a time, of one of 37 x 6 all.
const { tf } = await loadEngine('webgpu', { threads: 1, bindingBytesMax: 1280 });

const sizeOf = (shape) => shape.reduce((product, side) => product * side, 1);
const values = (shape, substream, scale = 1) => {
  const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream, step: 0, slot: 0 });
  return Float32Array.from({ length: sizeOf(shape) }, () => scale * rng.nextNormal());
};

function norm(weight, bias) {
  return (...terms) => {
    const x = terms.reduce((sum, term) => tf.add(sum, term));
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const variance = tf.mean(tf.square(centred), -1, true);
    return tf.add(tf.mul(tf.div(centred, tf.sqrt(tf.add(variance, 1e-5))), weight), bias);
  };
}

const blocksOf = (lengths, B) => new RowBlocks(tf, lengths, wholeBatch(B));

function attentionCase(name, [B, Q, K, H, D], { bias = null, mask = false } = {}) {
  const biasShape = bias === 'causal' ? [1, 1, Q, K] : [B, 1, 1, K];
  const biases = Float32Array.from({ length: sizeOf(biasShape) }, (_, i) => {
    const isMasked = bias === 'causal' ? i % K > Math.floor(i / K) : i >= K && i % K > K / 2;
    return isMasked ? -1e9 : 0;
  });
  const maskShape = [B, H, Q, K];
  const masks = values(maskShape, 9).map((value) => (value > -0.5 ? 1.5 : 0));
  const heads = (x) => tf.transpose(tf.reshape(x, [B, -1, H, D / H]), [0, 2, 1, 3]);
  return {
    name,
    shapes: [
      [B * Q, D],
      [B * K, D],
      [B * K, D],
    ],
    ours: (query, key, value) => {
      const keyBias = bias === null ? null : tf.tensor(biases, biasShape);
      const weightMask = mask ? tf.tensor(masks, maskShape) : null;
      const [queries, keys] = [Q, K].map((length) => blocksOf(new Int32Array(B).fill(length), B));
      const options = { heads: H, queries, keys, biases: [keyBias], weightMasks: [weightMask] };
      return attention(tf, query, key, value, options);
    },
    plain: (query, key, value) => {
      let scores = tf.div(tf.matMul(heads(query), heads(key), false, true), Math.sqrt(D / H));
      if (bias !== null) scores = tf.add(scores, tf.tensor(biases, biasShape));
      let weights = tf.softmax(scores);
      if (mask) weights = tf.mul(weights, tf.tensor(masks, maskShape));
      return tf.reshape(tf.transpose(tf.matMul(weights, heads(value)), [0, 2, 1, 3]), [B * Q, D]);
    },
  };
}

/** Sequences that lie end to end, each attending to itself, in blocks that pad them. */
function unequalCase(name, lengths, groups, [H, D]) {
  const numRows = lengths.reduce((sum, length) => sum + length, 0);
  const first = (sequence) => lengths.slice(0, sequence).reduce((sum, length) => sum + length, 0);
  const heads = (x) => tf.transpose(tf.reshape(x, [-1, H, D / H]), [1, 0, 2]);
  return {
    name,
    shapes: [
      [numRows, D],
      [numRows, D],
      [numRows, D],
    ],
    ours: (query, key, value) => {
      const rows = new RowBlocks(tf, Int32Array.from(lengths), groups);
      const biases = rows.blocks.map(({ batchSize, length }, block) => {
        const masked = Float32Array.from({ length: batchSize * length }, (_, at) =>
          at % length < lengths[groups[block][Math.floor(at / length)]] ? 0 : -1e9,
        );
        return tf.tensor(masked, [batchSize, 1, 1, length]);
      });
      const weightMasks = groups.map(() => null);
      return attention(tf, query, key, value, { heads: H, queries: rows, keys: rows, biases, weightMasks });
    },
    plain: (query, key, value) => {
      const contexts = lengths.map((length, sequence) => {
        const [q, k, v] = [query, key, value].map((x) =>
          heads(tf.slice(x, [first(sequence), 0], [length, D])),
        );
        const weights = tf.softmax(tf.div(tf.matMul(q, k, false, true), Math.sqrt(D / H)));
        return tf.reshape(tf.transpose(tf.matMul(weights, v), [1, 0, 2]), [length, D]);
      });
      return tf.concat(contexts, 0);
    },
  };
}

function linearCase(name, N, I, O) {
  return {
    name,
    shapes: [[N, I], [O, I], [O]],
    ours: (x, weight, bias) => linear(tf, x, { weight, bias }),
    plain: (x, weight, bias) => tf.add(tf.matMul(x, weight, false, true), bias),
  };
}

function crossEntropyCase(name, [N, D, V], rowsAtOnce) {
  const labels = Int32Array.from({ length: N }, (_, row) => (row * 7 + 3) % V);
  return {
    name,
    shapes: [
      [N, D],
      [V, D],
    ],
    ours: (hidden, table) => crossEntropySum(tf, hidden, table, labels, rowsAtOnce),
    plain: (hidden, table) => {
      const shifted = tf.logSoftmax(tf.matMul(hidden, table, false, true));
      return tf.neg(tf.sum(tf.mul(shifted, tf.oneHot(tf.tensor1d(labels, 'int32'), V))));
    },
  };
}

// No size is a multiple of a tile, of a workgroup or of four, but where the name says so.
const cases = [
  linearCase('linear', 37, 19, 45),
  linearCase('linear, tiles of 64', 130, 6, 197),
  linearCase('linear, a long sum', 3, 1100, 5),
  linearCase('linear, many rows', 1100, 3, 5),
  {
    name: 'layer norm',
    shapes: [[5, 70], [70], [70]],
    ours: (x, weight, bias) => layerNorm(tf, [x], { weight, bias }),
    plain: (x, weight, bias) => norm(weight, bias)(x),
  },
  {
    name: 'layer norm of a sum, more rows than a block',
    shapes: [[67, 9], [67, 9], [9], [9]],
    ours: (x, y, weight, bias) => layerNorm(tf, [x, y], { weight, bias }),
    plain: (x, y, weight, bias) => norm(weight, bias)(x, y),
  },
  {
    name: 'GELU',
    shapes: [[9, 23]],
    scale: 3,
    ours: (x) => gelu(tf, x),
    plain: (x) => tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.div(x, Math.SQRT2)))),
  },
  attentionCase('attention, 3 features a head', [2, 5, 7, 2, 6]),
  attentionCase('attention, more rows than a workgroup and a tile', [1, 66, 67, 1, 4]),
  attentionCase('attention with padding', [2, 3, 5, 2, 16], { bias: 'padding' }),
  attentionCase('attention with a causal mask', [2, 6, 6, 1, 8], { bias: 'causal' }),
  attentionCase('attention with padding and dropped weights', [2, 3, 6, 2, 10], {
    bias: 'padding',
    mask: true,
  }),
  unequalCase('attention of unequal sequences', [3, 6, 2], [[0, 1, 2]], [2, 8]),
  unequalCase(
    'attention of unequal sequences in blocks',
    [3, 6, 2, 5],
    [
      [2, 0],
      [3, 1],
    ],
    [2, 8],
  ),
  crossEntropyCase('cross entropy', [5, 6, 37], 100),
  crossEntropyCase('cross entropy in chunks of rows', [5, 6, 37], 2),
  crossEntropyCase('cross entropy in parts of the table', [5, 6, 75], 100),
  crossEntropyCase('cross entropy in both', [3, 6, 75], 1),
];

const differentiatedByTfjs = (form, inputs, weight) =>
  tf.grads((...xs) => tf.sum(tf.mul(form(...xs), weight)))(inputs);

function differentiatedByTape(form, inputs, weight) {
  const weightedSum = (x) =>
    differentiable(
      tf,
      [x],
      () => ({ value: tf.sum(tf.mul(x, weight)), saved: [] }),
      (dy) => [tf.mul(dy, weight)],
    );
  return gradients(tf, () => weightedSum(form(...inputs)), inputs).gradients;
}

/** Value and gradients under one random output gradient. */
async function run({ shapes, scale }, form, differentiated) {
  const inputs = shapes.map((shape, index) => tf.tensor(values(shape, index, scale), shape));
  const results = tf.tidy(() => {
    const value = form(...inputs);
    const weight = tf.tensor(values(value.shape, 77), value.shape);
    return [value, ...differentiated(form, inputs, weight)];
  });
  const read = await Promise.all(results.map((tensor) => tensor.data()));
  tf.dispose([inputs, results]);
  return read;
}

const allSameBits = (left, right) => left.every((array, i) => sameBits(array, right[i]));

await tf.setBackend('cpu');
const expected = [];
for (const one of cases) expected.push(await run(one, one.plain, differentiatedByTfjs));
await tf.setBackend('webgpu');
const report = [];
const liveBefore = tf.memory().numTensors;
for (const [index, one] of cases.entries()) {
  const startMs = performance.now();
  const first = await run(one, one.ours, differentiatedByTape);
  const milliseconds = performance.now() - startMs;
  const again = await run(one, one.ours, differentiatedByTape);
  report.push({
    name: one.name,
    milliseconds,
    errors: first.map((array, i) => errorOf(array, expected[index][i])),
    repeats: allSameBits(first, again),
  });
}
/** Far from zero, where exponentials would overflow, and in the form without gradients. */
const extreme = tf.tidy(() => {
  const [hidden, table] = [
    tf.tensor(values([5, 6], 0, 100), [5, 6]),
    tf.tensor(values([75, 6], 1, 10), [75, 6]),
  ];
  const labels = Int32Array.of(3, 0, 10, 3, 74);
  return [crossEntropySum(tf, hidden, table, labels), crossEntropySumOnly(tf, hidden, table, labels)];
});
const [sum, sumOnly] = await Promise.all(extreme.map(async (tensor) => (await tensor.data())[0]));
tf.dispose(extreme);
/** One product by every tile: [70, 21] x [21, 135] of which one operand lies transposed. */
async function productsByTile() {
  const [a, b] = [tf.tensor(values([21, 70], 0), [21, 70]), tf.tensor(values([21, 135], 1), [21, 135])];
  const { recorder } = tf.backend();
  const results = [];
  for (const tile of Object.keys(TILES)) {
    const info = product(recorder, { a, b, transposeA: true, tile });
    const tensor = tf.engine().makeTensorFromTensorInfo(info);
    results.push([await tensor.data()]);
    tensor.dispose();
  }
  tf.dispose([a, b]);
  return results.every((values) => allSameBits(values, results[0]));
}
/** Rows of a table by id and by place, and the table scaled: what of it differs from the host's. */
async function tableDifferences(numRows, width) {
  const onHost = values([numRows, width], 5);
  const table = tf.tensor(onHost, [numRows, width]);
  const ids = [numRows - 1, 0, 31, 32, 33, numRows - 1];
  const rows = (chosen) => chosen.flatMap((id) => [...onHost.subarray(id * width, (id + 1) * width)]);
  const slice = Array.from({ length: 33 }, (_, i) => i + 3);
  const found = tf.tidy(() => [
    tf.gather(table, tf.tensor1d(ids, 'int32')),
    tf.slice(table, [3, 0], [33, width]),
    tf.mul(table, tf.scalar(0.3)),
  ]);
  const expected = [rows(ids), rows(slice), onHost.map((value) => Math.fround(value * Math.fround(0.3)))];
  const read = await Promise.all(found.map((tensor) => tensor.data()));
  tf.dispose([table, found]);
  return ['gather', 'slice', 'scale'].filter((_, i) => !sameBits(read[i], Float32Array.from(expected[i])));
}
const tables = [...(await tableDifferences(37, 6)), ...(await tableDifferences(75, 6))];
/** Tokens that rows predict, where some are equally probable: rows of the identity against a table of steps. */
async function predictedTokens(numRows) {
  const table = tf.tensor(
    Float32Array.from({ length: numRows * 3 }, (_, i) => Math.floor(i / 3 / 20) * (i % 3 === 2 ? -1 : i % 3)),
    [numRows, 3],
  );
  const tokens = tf.tidy(() => argMaxTokens(tf, tf.eye(3), table));
  const read = [...(await tokens.data())];
  tf.dispose([table, tokens]);
  return read;
}
const predicted = [await predictedTokens(75), await predictedTokens(175)];
const tilesAgree = await productsByTile();
/** Every kernel that combines numbers over lanes, by subgroups and by the workgroup's memory. */
async function subgroupsAgree() {
  const tensors = {
    ...{ x: [5, 70], unit: [5, 70], dy: [5, 70], scale: [5, 1], weight: [70], bias: [70] },
    ...{ rows: [5, 6], table: [175, 6] },
  };
  const inputs = Object.fromEntries(
    Object.entries(tensors).map(([name, shape], index) => [name, tf.tensor(values(shape, index), shape)]),
  );
  inputs.labels = tf.tensor1d(Int32Array.of(3, 0, 174, 80, 3), 'int32');
  const runs = [];
  for (const subgroups of [true, false]) {
    const recorder = new Recorder(tf.backend(), { subgroups, bindingBytesMax: 1280 });
    const infos = [
      ...layerNormKernels.layerNorm(recorder, inputs, { epsilon: 1e-5 }),
      ...layerNormKernels.layerNormGradient(recorder, inputs, {}),
      ...crossEntropyKernels.chunkedCrossEntropy(recorder, inputs, { rowsAtOnce: 4, gradients: 1 }),
      ...vocabularyHeadKernels.argMaxRows(recorder, inputs, { rowsAtOnce: 4 }),
    ];
    const results = infos.map((info) => tf.engine().makeTensorFromTensorInfo(info));
    runs.push(await Promise.all(results.map((tensor) => tensor.data())));
    tf.dispose(results);
  }
  tf.dispose(inputs);
  return allSameBits(runs[0], runs[1]);
}
const subgroups = { lanes: tf.backend().recorder.subgroupLanes, agree: await subgroupsAgree() };
const leaked = tf.memory().numTensors - liveBefore;
console.log(
  JSON.stringify({
    report,
    extreme: { sum, sumOnly },
    predicted,
    tilesAgree,
    subgroups,
    tableDifferences: tables,
    leaked,
  }),
);
process.exit(0);
