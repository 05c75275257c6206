// A gradient on WebGPU, then the device is taken away and memory runs out, for real. Arguments: folder of the
// compiled source. Prints one JSON line.
import { createHash } from 'node:crypto';

const [source] = process.argv.slice(2);
const { layoutSize } = await import(`${source}/base/index.js`);
const { loadEngine } = await import(`${source}/engine/index.js`);
const { gradientDespiteTrouble } = await import(`${source}/worker/device-trouble.js`);
const { createTrainingModel, initializeParameters } = await import(`${source}/model/index.js`);

const model = {
  ...{ vocabSize: 20, dModel: 8, encoderLayers: 1, decoderLayers: 1, heads: 1, ffnDim: 8, maxPositions: 8 },
  ...{ dropout: 0, attentionDropout: 0, activationDropout: 0, initStd: 0.1, concatHead: false },
};
const objective = { kind: 'lplm', exitLayers: 'iid', detachCopies: true, goldRatio: 0 };
const specialIds = { bos: 0, pad: 1, eos: 2, mask: 3 };
const rows = 2;
const batch = {
  ...{ batchSize: rows, sourceLength: 4, targetLength: 4, realTokens: 4 * rows },
  sourceIds: Int32Array.from({ length: 4 * rows }, (_, i) => 4 + i),
  sourceLengths: new Int32Array(rows).fill(4),
  labels: Int32Array.from({ length: 4 * rows }, (_, i) => 15 - i),
};
const key = { seed: 1, step: 1, slot: 0 };

const engine = await loadEngine('webgpu', { threads: 1 });
const { tf } = engine;
const training = createTrainingModel({
  ...{ tf, model, objective, specialIds, dropoutMasks: null, readInto: engine.readInto },
});
const parameters = new Float32Array(layoutSize(training.layout));
initializeParameters(training.layout, model, 1, parameters);
training.setParameters(parameters);
const gradient = new Float32Array(parameters.length);
const sha256 = () => createHash('sha256').update(new Uint8Array(gradient.buffer)).digest('hex');

const restarts = [];
const context = { engine, model: training, parameters, onRestart: ({ kind }) => restarts.push(kind) };
const compute = () => gradientDespiteTrouble(context, batch, key, gradient);

await compute();
const before = sha256();
gradient.fill(0);
tf.backend().device.destroy();
await compute();
const after = sha256();

// One addition in the model's place, for a fresh device compiles every kernel anew, and a buffer beside it: half of
// what one may be for each row. SwiftShader has no whole one to give.
const heavy = {
  setParameters: () => {},
  gradient: async ({ batchSize }) => {
    const size = (engine.tensorBytesMax / 2) * batchSize;
    const ballast = tf.backend().device.createBuffer({ size, usage: GPUBufferUsage.STORAGE });
    const sum = tf.tidy(() => tf.add(tf.fill([2048], 1), tf.fill([2048], 2)));
    try {
      return { lossSum: (await sum.data())[0], realTokens: 1 };
    } finally {
      sum.dispose();
      ballast.destroy();
    }
  },
};
const error = await gradientDespiteTrouble({ ...context, model: heavy }, batch, key, gradient).catch(
  ({ code, message }) => ({ code, message }),
);
console.log(JSON.stringify({ before, after, restarts, error }));
