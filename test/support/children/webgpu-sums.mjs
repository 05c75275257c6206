// Gradients added up on a WebGPU device against the host's sums: bits, special values, devices that are taken away.
// Argument: folder of the built program. Prints one JSON line.
import { sameBits } from './compare-floats.mjs';

const [source] = process.argv.slice(2);
const { layoutSize, PhiloxRng } = await import(`${source}/base/index.js`);
const { loadEngine } = await import(`${source}/engine/index.js`);
const { createKernels } = await import(`${source}/kernels/index.js`);
const { createTrainingModel, initializeParameters, parameterLayout } = await import(
  `${source}/model/index.js`
);
const { FragmentStore } = await import(`${source}/worker/fragment-store.js`);
const { SlotGradients } = await import(`${source}/worker/slot-gradients.js`);

// Part of a table of 80 x 8 floats at a time.
const engine = await loadEngine('webgpu', { threads: 1, bindingBytesMax: 1280 });
const { tf } = engine;
const kernels = createKernels();
const sums = await engine.deviceSums();

const ofBits = (...bits) => new Float32Array(Uint32Array.from(bits).buffer);

/** Zeros, subnormals, the smallest and largest numbers, infinities and NaN of both signs, each with each. */
async function specialDifferences() {
  const edges = [0, 1, 0x7fffff, 0x800000, 0x800001, 0x3f800000, 0x7f7fffff, 0x7f800000, 0x7fc00001];
  const all = [...edges, ...edges.map((bits) => bits + 2 ** 31)];
  const left = ofBits(...all.flatMap((bits) => all.map(() => bits)));
  const right = ofBits(...all.flatMap(() => all));
  const [ofLeft, ofRight] = [await sums.leaf([tf.tensor1d(left)]), await sums.leaf([tf.tensor1d(right)])];
  const leaf = await ofLeft.leaf[0].data();
  const [node] = sums.add(ofLeft.leaf, ofRight.leaf);
  const found = await node.data();
  node.dispose();
  const [expectedLeaf, other] = [left.slice(), right.slice()];
  for (const flushed of [expectedLeaf, other]) kernels.addLeaf(flushed, []);
  const expected = new Float32Array(left.length);
  kernels.addFlush(expected, expectedLeaf, other);
  return { leaf: sameBits(leaf, expectedLeaf), node: sameBits(found, expected), ofNull: nullSums() };
}

/** What is null is zeros. */
function nullSums() {
  const one = tf.scalar(1);
  const [neither, first, second] = sums.add([null, one, null], [null, null, one]);
  one.dispose();
  return neither === null && first === one && second === one;
}

async function finiteness() {
  const found = [];
  for (const last of [3e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN]) {
    const values = new Float32Array(200).fill(1);
    values[199] = last;
    const { leaf, allFinite } = await sums.leaf([null, tf.tensor2d([[1, 2]]), tf.tensor1d(values)]);
    tf.dispose(leaf.filter((tensor) => tensor !== null));
    found.push(allFinite);
  }
  return found;
}

const model = {
  ...{ vocabSize: 80, dModel: 8, encoderLayers: 1, decoderLayers: 2, heads: 1, ffnDim: 8, maxPositions: 8 },
  ...{ dropout: 0, attentionDropout: 0, activationDropout: 0, initStd: 0.1, concatHead: true },
};
const specialIds = { bos: 0, pad: 1, eos: 2, mask: 3 };
const layout = parameterLayout(model);
const floats = layoutSize(layout);
const parameters = new Float32Array(floats);
initializeParameters(layout, model, 1, parameters);
const [B, T] = [1, 4];

function batchOf({ slot }) {
  const rng = new PhiloxRng({ seed: 1, stream: 'sampling', substream: 0, step: 0, slot });
  const ids = () => Int32Array.from({ length: B * T }, () => 4 + rng.nextInt(model.vocabSize - 4));
  const sources = { batchSize: B, sourceLength: T, sourceIds: ids(), sourceLengths: Int32Array.of(T) };
  return { ...sources, targetLength: T, labels: ids(), realTokens: B * T };
}

const MICRO_BATCHES = 8;

/** Fragments of slots 1 to 6 by the given sums; the device goes before slot 5, or before it is read, if so told. */
async function fragmentsOf(kind, sumsOrNull, takenAway = null) {
  const objective = { kind, exitLayers: 'iid', detachCopies: true, goldRatio: 0.3 };
  const { readInto, readsBeside } = engine;
  const training = createTrainingModel({ tf, model, objective, specialIds, readInto, readsBeside });
  training.setParameters(parameters);
  const fragments = new FragmentStore(kernels, floats, MICRO_BATCHES);
  const restarts = [];
  const gradients = new SlotGradients({
    ...{ engine, model: training, parameters, fragments, microBatches: MICRO_BATCHES },
    sums: sumsOrNull,
    onRestart: ({ kind: what }) => restarts.push(what),
    batchOf: async (key) => batchOf(key),
  });
  const liveBefore = tf.memory().numTensors;
  for (const slot of [1, 2, 3, 4, 5, 6]) {
    if (slot === 5 && takenAway === 'before a slot') tf.backend().device.destroy();
    const key = { seed: 1, step: 1, slot };
    const gradient = await gradients.compute(batchOf(key), key);
    // The second time it is computed for nobody.
    if (slot === 3) (await gradients.compute(batchOf(key), key)).drop();
    gradient.keep();
    if (slot === 2 && takenAway === null) await gradients.bringHome();
  }
  const { areOnDevice } = gradients;
  if (takenAway === 'before it is read') tf.backend().device.destroy();
  await gradients.bringHome();
  const result = gradients
    .fragments()
    .map(({ first, count, value }) => ({ first, count, value: value.slice() }));
  const leaked = tf.memory().numTensors - liveBefore;
  gradients.clear();
  training.dispose();
  return { result, restarts, areOnDevice, leaked };
}

const special = await specialDifferences();
const finite = await finiteness();
const cases = [];
for (const kind of ['lplm', 'soft']) {
  const onHost = await fragmentsOf(kind, null);
  const losses = kind === 'lplm' ? [null, 'before a slot', 'before it is read'] : [null];
  for (const takenAway of losses) {
    const onDevice = await fragmentsOf(kind, sums, takenAway);
    cases.push({
      ...{ kind, takenAway, restarts: onDevice.restarts, leaked: onDevice.leaked },
      areOnDevice: [onHost.areOnDevice, onDevice.areOnDevice],
      nodes: onDevice.result.map(({ first, count }) => [first, count]),
      sameNodes:
        onDevice.result.length === onHost.result.length &&
        onDevice.result.every(({ first }, index) => first === onHost.result[index].first),
      sameBits: onDevice.result.every(({ value }, index) => sameBits(value, onHost.result[index].value)),
    });
  }
}
console.log(JSON.stringify({ proven: sums !== null, special, finite, cases }));
process.exit(0);
