// Training and generation on WebGPU with matrices that no shader may be given whole, and the same on tfjs's CPU
// backend. Argument: folder of the compiled source. Prints one JSON line.
import { errorOf } from './compare-floats.mjs';

const [source] = process.argv.slice(2);
const { layoutSize, PhiloxRng } = await import(`${source}/base/index.js`);
const { loadEngine } = await import(`${source}/engine/index.js`);
const { createGenerationModel, createTrainingModel, initializeParameters, parameterLayout } = await import(
  `${source}/model/index.js`
);

const BINDING_BYTES_MAX = 2112;
const layers = { encoderLayers: 1, decoderLayers: 2, heads: 2, concatHead: true, initStd: 0.5 };
const rates = { dropout: 0, attentionDropout: 0.2, activationDropout: 0.2 };
/** Beyond the limit: the table, 18 KiB, activations of the feed-forward layers, 6 KiB, masks of attention, 2304 bytes. */
const trained = { ...layers, ...rates, vocabSize: 577, dModel: 8, ffnDim: 64, maxPositions: 12 };
/** Beyond the limit: the table, 8 KiB. The logits of four rows are not. */
const generating = { ...layers, ...rates, vocabSize: 128, dModel: 16, ffnDim: 16, maxPositions: 4 };
const specialIds = { bos: 0, pad: 1, eos: 2, mask: 3 };

const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream: 0, step: 0, slot: 0 });
const ids = ({ vocabSize }, count) =>
  Int32Array.from({ length: count }, () => 4 + rng.nextInt(vocabSize - 4));
const sourcesFor = (model, batchSize, sourceLength) => ({
  ...{ batchSize, sourceLength, sourceIds: ids(model, batchSize * sourceLength) },
  sourceLengths: Int32Array.from({ length: batchSize }, (_, row) => sourceLength - 2 * row),
});
const parametersOf = (model) => {
  const layout = parameterLayout(model);
  const parameters = new Float32Array(layoutSize(layout));
  initializeParameters(layout, model, 1, parameters);
  return parameters;
};

const { tf } = await loadEngine('webgpu', { threads: 1, bindingBytesMax: BINDING_BYTES_MAX });
let largest = 0;
const { device } = tf.backend();
const create = device.createBindGroup.bind(device);
device.createBindGroup = (descriptor) => {
  for (const { resource } of descriptor.entries) {
    largest = Math.max(largest, resource.size ?? resource.buffer.size);
  }
  return create(descriptor);
};

const dropoutMasks = {
  dropoutMask(target, key, rate) {
    const draws = new PhiloxRng(key);
    for (let i = 0; i < target.length; i += 1) target[i] = draws.nextFloat() < rate ? 0 : 1 / (1 - rate);
  },
};
const [B, T] = [2, 12];
const batch = {
  ...sourcesFor(trained, B, T),
  ...{ targetLength: T, labels: ids(trained, B * T), realTokens: B * T },
};

async function gradient(kind) {
  const objective = { kind, exitLayers: 'iid', detachCopies: true, goldRatio: 0.3 };
  const readInto = async (tensor, target) => target.set(await tensor.data());
  const training = createTrainingModel({ tf, model: trained, objective, specialIds, dropoutMasks, readInto });
  const parameters = parametersOf(trained);
  training.setParameters(parameters);
  const target = new Float32Array(parameters.length);
  const { lossSum } = await training.gradient(batch, { seed: 1, step: 1, slot: 0 }, target);
  training.dispose();
  return { lossSum, target };
}

const DECODINGS = [
  { kind: 'lplm', exit: 'hard', confidence: 'shortlist', threshold: 2 },
  { kind: 'lplm', exit: 'full', confidence: 'full' },
  { kind: 'soft', exit: 'soft', confidence: 'full' },
  { kind: 'autoregressive', exit: 'full', confidence: 'full' },
  { kind: 'autoregressive', exit: 'full', confidence: 'full', beams: 2 },
];
const sources = sourcesFor(generating, 1, 4);

/** Token, layer and entropy of each slot. */
async function generate({ kind, ...decoding }) {
  const options = { model: generating, kind, specialIds, shortlistSize: 20 };
  const generation = createGenerationModel({ tf, ...options });
  generation.setParameters(parametersOf(generating));
  const encoded = generation.encode(sources);
  const defaults = { threshold: 0, quorum: 1, targetLength: 4, beams: 1, lengthPenalty: 1 };
  const { sequences } = await generation.decode(encoded, { ...defaults, ...decoding });
  encoded.dispose();
  generation.dispose();
  return sequences.map(({ tokens }) => tokens.map(({ id, layer, entropy }) => [id, layer, entropy]));
}

const results = {};
for (const backend of ['webgpu', 'cpu']) {
  await tf.setBackend(backend);
  const gradients = [await gradient('lplm'), await gradient('soft')];
  const generated = [];
  for (const decoding of DECODINGS) generated.push(await generate(decoding));
  results[backend] = { gradients, generated };
}
const errors = results.webgpu.gradients.flatMap(({ lossSum, target }, index) => {
  const expected = results.cpu.gradients[index];
  return [Math.abs(lossSum / expected.lossSum - 1), errorOf(target, expected.target)];
});
const generated = { webgpu: results.webgpu.generated, cpu: results.cpu.generated };
console.log(JSON.stringify({ errors, generated, largest, bindingBytesMax: BINDING_BYTES_MAX }));
process.exit(0);
