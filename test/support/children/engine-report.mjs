// Trains a small model on one engine and writes what came of it. Arguments: folder of the built program, engine,
// threads, file for the gradient, `mini` for a model that software WebGPU can bear, `gradient` for the first only.
// Prints one JSON line.
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';

const [source, name, threads, file, size, extent] = process.argv.slice(2);
const { layoutSize, PhiloxRng } = await import(`${source}/base/index.js`);
const { loadEngine } = await import(`${source}/engine/index.js`);
const { createTrainingModel, initializeParameters, parameterLayout } = await import(
  `${source}/model/index.js`
);

const isMini = size === 'mini';
const model = {
  ...(isMini
    ? { vocabSize: 61, dModel: 16, encoderLayers: 1, decoderLayers: 2, heads: 2, ffnDim: 24 }
    : { vocabSize: 500, dModel: 64, encoderLayers: 2, decoderLayers: 2, heads: 4, ffnDim: 256 }),
  maxPositions: 64,
  dropout: 0.1,
  attentionDropout: 0.1,
  activationDropout: 0.1,
  initStd: 0.05,
  concatHead: false,
};
const [B, T] = isMini ? [2, 12] : [4, 32];
const numSteps = isMini ? 4 : 16;
const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream: 0, step: 0, slot: 0 });
const ids = () => Int32Array.from({ length: B * T }, () => 4 + rng.nextInt(model.vocabSize - 4));
const batch = {
  batchSize: B,
  sourceLength: T,
  targetLength: T,
  sourceIds: ids(),
  sourceLengths: Int32Array.of(T, T - 9, T - 3, T - 1).subarray(0, B),
  labels: ids().map((id, i) => (i % T > T - 7 ? 1 : id)),
  realTokens: B * (T - 6),
};
const dropoutMasks = {
  dropoutMask(target, key, rate) {
    const draws = new PhiloxRng(key);
    for (let i = 0; i < target.length; i += 1) target[i] = draws.nextFloat() < rate ? 0 : 1 / (1 - rate);
  },
};

const { tf, readInto, readsBeside } = await loadEngine(name, { threads: Number(threads) });
const layout = parameterLayout(model);
const parameters = new Float32Array(layoutSize(layout));
initializeParameters(layout, model, 1, parameters);
const objective = { kind: 'lplm', exitLayers: 'iid', detachCopies: true, goldRatio: 0.3 };
const specialIds = { bos: 0, pad: 1, eos: 2, mask: 3 };
const reading = { readInto, readsBeside };
const training = createTrainingModel({ tf, model, objective, specialIds, dropoutMasks, ...reading });
training.setParameters(parameters);
const gradient = new Float32Array(parameters.length);
const sha256 = (values) => createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');

/** Of the gradient of objective soft, whose layers read what those below predict: loss, then each tensor's norm. */
async function softNorms() {
  const withHead = { ...model, concatHead: true };
  const options = {
    tf,
    model: withHead,
    objective: { ...objective, kind: 'soft' },
    specialIds,
    dropoutMasks,
  };
  const soft = createTrainingModel({ ...options, ...reading });
  const values = new Float32Array(layoutSize(soft.layout));
  initializeParameters(soft.layout, withHead, 2, values);
  soft.setParameters(values);
  const grad = new Float32Array(values.length);
  const { lossSum } = await soft.gradient(batch, { seed: 1, step: 1, slot: 0 }, grad);
  soft.dispose();
  const norms = soft.layout.map(({ offset, size: length }) =>
    Math.sqrt(grad.subarray(offset, offset + length).reduce((sum, value) => sum + value * value, 0)),
  );
  return [lossSum, ...norms];
}

const first = await training.gradient(batch, { seed: 1, step: 1, slot: 0 }, gradient);
const report = { losses: [first.lossSum], sha256: sha256(gradient) };
writeFileSync(file, new Uint8Array(gradient.buffer));
if (extent === 'gradient') {
  console.log(JSON.stringify(report));
  process.exit(0);
}
/** Tensors of tfjs, and those of TensorFlow's own beneath them, which fused kernels make too. */
const liveTensors = () => tf.memory().numTensors + (tf.backend().getNumOfTFTensors?.() ?? 0);
const before = liveTensors();
for (let step = 2; step <= numSteps; step += 1) {
  let square = 0;
  for (const value of gradient) square += value * value;
  const rate = 1 / Math.sqrt(square);
  for (let i = 0; i < parameters.length; i += 1) parameters[i] -= rate * gradient[i];
  training.setParameters(parameters);
  report.losses.push((await training.gradient(batch, { seed: 1, step, slot: 0 }, gradient)).lossSum);
}
report.leakedTensors = liveTensors() - before;
initializeParameters(layout, model, 1, parameters);
training.setParameters(parameters);
await training.gradient(batch, { seed: 1, step: 1, slot: 0 }, gradient);
report.repeatedSha256 = sha256(gradient);
report.softNorms = await softNorms();
console.log(JSON.stringify(report));
