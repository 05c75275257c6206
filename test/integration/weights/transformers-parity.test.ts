/**
 * Python's transformers as the judge: it opens what is exported here without a key too many or too few, computes
 * the same with it, splits texts into the same ids, and what it writes comes back to the bit.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { findTorch } from '../../../src/bench/torch-environment.ts';
import { trainBpe } from '../../../src/data/index.ts';
import { loadEngine } from '../../../src/engine/index.ts';
import { parameterLayout } from '../../../src/model/index.ts';
import { ModelFolder, openWeights, sha256OfWeights, writeModelFolder } from '../../../src/weights/index.ts';
import { CORPUS } from '../../support/lockstep-command.ts';
import { initialParameters, MINI_MODEL, randomBatch } from '../../support/model-fixtures.ts';
import { modelStates } from '../../support/model-states.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const PEER = join(import.meta.dirname, '..', '..', '..', 'bench', 'peers', 'bart_parity.py');
const TOLERANCE = 1e-4;
/** It takes ten seconds of a core; most of them Python's, importing. */
const LIMIT_MS = 600_000;
const TEXTS = [
  'The quick brown fox — “jumps” over 13 lazy dogs.',
  ' leading space,\ttab\nand line',
  'naïve café 日本語 🙂',
];

interface Decoded {
  readonly states: readonly number[];
  readonly logits: readonly number[];
}

interface Peer {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly mismatched: readonly string[];
  readonly encoder: readonly number[];
  readonly causal: Decoded;
  /** Without the causal mask: what ELMER's decoder reads, and what the causal one reads. */
  readonly parallel: Decoded;
  readonly unmasked: Decoded;
  readonly tokenizer: {
    readonly class: string;
    readonly ids: readonly (readonly number[])[];
    readonly texts: readonly string[];
    readonly specials: readonly number[];
  };
  readonly startId: number;
}

const words =
  readFileSync(CORPUS, 'utf8')
    .slice(0, 60_000)
    .match(/ ?\p{L}+/gu) ?? [];
const counts = new Map<string, number>();
for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
const tokenizer = trainBpe(counts, 400);
const model = { ...MINI_MODEL, vocabSize: tokenizer.vocabSize };
const specialIds = { bos: 0, pad: 1, eos: 2, mask: tokenizer.maskId };
const flat = initialParameters(model);
const batch = randomBatch(model.vocabSize - 1, { sourceLengths: [9, 6], targetLengths: [7, 5] });

let folder = '';
let copies = '';
let sha256 = '';
let peer: Peer | null = null;
let lacking = '';

/** `ids` in rows. */
function rows(ids: Int32Array, width: number): number[][] {
  return Array.from({ length: ids.length / width }, (_, row) => [
    ...ids.slice(row * width, (row + 1) * width),
  ]);
}

async function askPeer(python: string): Promise<Peer> {
  const { sourceIds, sourceLength, sourceLengths, labels, targetLength } = batch;
  const sourceMask = [...sourceLengths].map((length) =>
    Array.from({ length: sourceLength }, (_, at) => Number(at < length)),
  );
  const inputs = join(copies, 'inputs.json');
  await writeFile(
    inputs,
    JSON.stringify({
      sourceIds: rows(sourceIds, sourceLength),
      sourceMask,
      causalIds: rows(labels, targetLength).map((row) => [specialIds.bos, ...row.slice(0, -1)]),
      parallelIds: rows(labels, targetLength).map((row) =>
        row.map((_, slot) => (slot === 0 ? specialIds.bos : specialIds.mask)),
      ),
      texts: TEXTS,
    }),
  );
  const { stdout } = await promisify(execFile)(python, [PEER, folder, inputs, copies], {
    env: { ...process.env, HF_HUB_OFFLINE: '1' },
    maxBuffer: 2 ** 28,
    timeout: LIMIT_MS,
  });
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Peer;
}

beforeAll(async () => {
  const root = await temporaryFolder();
  folder = join(root, 'model');
  copies = join(root, 'copies');
  await mkdir(copies);
  const bytes = new Uint8Array(flat.buffer);
  const weights = {
    layout: parameterLayout(model),
    read: async (first: number, target: Uint8Array) =>
      target.set(bytes.subarray(first * 4, first * 4 + target.length)),
  };
  sha256 = await writeModelFolder(folder, { model, weights, tokenizer });
  const torch = await findTorch();
  if (torch.available) peer = await askPeer(torch.python);
  else lacking = `needs Python's transformers, which \`npm run peers\` installs: ${torch.reason}`;
}, LIMIT_MS);

/** The largest absolute difference. */
function distance(ours: Float32Array, theirs: readonly number[]): number {
  expect(theirs).toHaveLength(ours.length);
  return ours.reduce((worst, value, index) => Math.max(worst, Math.abs(value - theirs[index]!)), 0);
}

describe('an exported folder in Python’s transformers', () => {
  it('opens without a key too many or too few', ({ skip }) => {
    if (peer === null) skip(lacking);
    const { missing, unexpected, mismatched, startId } = peer!;
    expect({ missing, unexpected, mismatched }).toEqual({ missing: [], unexpected: [], mismatched: [] });
    expect(startId).toBe(specialIds.bos);
  });

  it('computes the same encoder states, and the same decoder states and logits with the causal mask', async ({
    skip,
  }) => {
    if (peer === null) skip(lacking);
    const { tf } = await loadEngine('wasm', { threads: 1 });
    const states = modelStates(tf, model, flat, specialIds);
    // Of source and target only the last is padded, and what its padding holds is read by nothing.
    const real = (batch.sourceLength + batch.sourceLengths[1]!) * model.dModel;
    expect(distance(states.encoder(batch), peer!.encoder.slice(0, real))).toBeLessThan(TOLERANCE);
    const causal = states.decoder(batch, 'autoregressive');
    const expected = {
      states: peer!.causal.states.slice(0, batch.realTokens * model.dModel),
      logits: peer!.causal.logits.slice(0, batch.realTokens * model.vocabSize),
    };
    expect(distance(causal.states, expected.states)).toBeLessThan(TOLERANCE);
    expect(distance(causal.logits, expected.logits)).toBeLessThan(TOLERANCE);
  });

  it('computes the same without the causal mask', async ({ skip }) => {
    if (peer === null) skip(lacking);
    const { tf } = await loadEngine('wasm', { threads: 1 });
    const parallel = modelStates(tf, model, flat, specialIds).decoder(batch, 'lastLayer');
    expect(distance(parallel.states, peer!.parallel.states)).toBeLessThan(TOLERANCE);
    expect(distance(parallel.logits, peer!.parallel.logits)).toBeLessThan(TOLERANCE);
    const { unmasked, causal } = peer!;
    const difference = distance(Float32Array.from(unmasked.states), causal.states);
    expect(difference, 'the mask was really taken away').toBeGreaterThan(0.01);
  });

  it('splits texts into the same ids with AutoTokenizer', ({ skip }) => {
    if (peer === null) skip(lacking);
    const ours = TEXTS.map((text) => [0, ...tokenizer.encode(text), 2]);
    expect(peer!.tokenizer.ids).toEqual(ours);
    expect(peer!.tokenizer.texts).toEqual(TEXTS);
    expect(peer!.tokenizer.specials).toEqual(Object.values(specialIds));
  });

  it.for(['safetensors', 'zip', 'legacy'])('comes back to the bit as %s', async (kind, { skip }) => {
    if (peer === null) skip(lacking);
    const back = await ModelFolder.open(join(copies, kind));
    expect(await sha256OfWeights(back.weights)).toBe(sha256);
    expect({ ...back.model, initStd: 0 }).toEqual({ ...model, initStd: 0 });
    await back.close();
  });

  it('comes back to the bit, tokenizer and all, without Python', async () => {
    const back = await openWeights(folder);
    expect(await sha256OfWeights(back.weights)).toBe(sha256);
    expect(back.model).toEqual(model);
    expect(back.tokenizer?.tokens).toEqual(tokenizer.tokens);
    expect(back.tokenizer?.merges).toEqual(tokenizer.merges);
    await back.close();
  });
});
