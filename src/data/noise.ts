/**
 * The noise of LPLM pre-training (ELMER.md section 3.1; BART, Lewis et al. 2020): sentence permutation, then
 * whole-word text infilling with Poisson span lengths. Pure: (ids, settings, key) decide the result.
 *
 * Two things differ from the published code, on purpose: sentence ends are recognised by the token's text
 * instead of id 4 alone (see token-kinds.ts), and insertions stop where the source would exceed its longest
 * length, instead of being cut off after. As published, a word starts at a "Ġ" only, so a text's first word,
 * and the first of a paragraph, starts no span.
 */
import { assert, type PhiloxRng } from '../base/index.ts';
import type { NoiseConfig } from '../config/index.ts';
import type { TokenKinds } from './token-kinds.ts';
import { UNK_ID } from './tokenizer/index.ts';

/** Where the table of span lengths ends. */
const PROBABILITY_MIN = 1e-7;

/**
 * A noised copy of `ids`, which begin with `<s>` and end with `</s>`; those two stay in place. The
 * result has at most `lengthMax` tokens if `ids` has.
 */
export function addNoise(
  ids: Int32Array,
  noise: NoiseConfig,
  kinds: TokenKinds,
  rng: PhiloxRng,
  lengthMax: number,
): Int32Array {
  assert(ids.length >= 2 && ids.length <= lengthMax, `${ids.length} ids are not 2 .. ${lengthMax}`);
  const permuted = rng.nextFloat() < noise.sentencePermutation ? permuteSentences(ids, kinds, rng) : ids;
  return infill(permuted, noise, kinds, rng, lengthMax);
}

/** Shuffles the sentences between the first and the last token. */
function permuteSentences(ids: Int32Array, kinds: TokenKinds, rng: PhiloxRng): Int32Array {
  const last = ids.length - 1;
  const sentences: Int32Array[] = [];
  let start = 1;
  for (let place = 1; place < last; place += 1) {
    const ends = kinds.endsSentence[ids[place]!] === 1;
    // Of several stops in a row the first ends the sentence; the text's end always does.
    const repeats = place > 1 && kinds.endsSentence[ids[place - 1]!] === 1;
    if ((ends && !repeats) || place === last - 1) {
      sentences.push(ids.subarray(start, place + 1));
      start = place + 1;
    }
  }
  const out = ids.slice();
  let place = 1;
  for (const index of rng.permutation(sentences.length)) {
    out.set(sentences[index]!, place);
    place += sentences[index]!.length;
  }
  return out;
}

/** Replaces spans of whole words by one `<mask>` or random token each, and inserts as many for empty spans. */
function infill(
  ids: Int32Array,
  noise: NoiseConfig,
  kinds: TokenKinds,
  rng: PhiloxRng,
  lengthMax: number,
): Int32Array {
  const last = ids.length - 1;
  const wordStarts: number[] = [];
  for (let place = 1; place < last; place += 1) {
    if (kinds.startsWord[ids[place]!] === 1) wordStarts.push(place);
  }
  const budget = Math.ceil(wordStarts.length * noise.maskRatio);
  if (budget === 0) return ids.slice();

  const drawn = drawSpanLengths(budget, noise.poissonLambda, rng);
  const lengths = drawn.filter((length) => length > 0);
  const insertions = drawn.length - lengths.length;
  const out = ids.slice();
  const keep = new Uint8Array(ids.length).fill(1);
  const order = rng.permutation(wordStarts.length);
  lengths.forEach((length, span) => {
    const start = wordStarts[order[span]!]!;
    out[start] = drawReplacement(noise, kinds, rng);
    let words = length;
    for (let place = start + 1; place < last; place += 1) {
      words -= kinds.startsWord[ids[place]!]!;
      if (words === 0) break;
      // Where spans overlap, the later one's token goes too: one mask stands for both.
      keep[place] = 0;
    }
  });
  const shortened = out.filter((_, place) => keep[place] === 1);
  return insert(shortened, Math.min(insertions, lengthMax - shortened.length), noise, kinds, rng);
}

/** Lengths in words that add up to `budget`; the last is trimmed to fit. Zeros are insertions. */
function drawSpanLengths(budget: number, lambda: number, rng: PhiloxRng): number[] {
  const cumulative = cumulativePoisson(lambda);
  const total = cumulative.at(-1)!.upTo;
  const lengths: number[] = [];
  for (let words = 0; words < budget; ) {
    const draw = rng.nextFloat() * total;
    const { length } = cumulative.find(({ upTo }) => draw < upTo) ?? cumulative.at(-1)!;
    lengths.push(Math.min(length, budget - words));
    words += length;
  }
  return lengths;
}

interface CumulativeEntry {
  readonly length: number;
  readonly upTo: number;
}
const cumulativeOfLambda = new Map<number, readonly CumulativeEntry[]>();

/** Span lengths with their summed Poisson probabilities; the last is the first of less than 1e-7, as published. */
export function cumulativePoisson(lambda: number): readonly CumulativeEntry[] {
  const known = cumulativeOfLambda.get(lambda);
  if (known !== undefined) return known;
  const entries: CumulativeEntry[] = [];
  let probability = Math.exp(-lambda);
  let upTo = 0;
  for (let length = 0; ; length += 1) {
    upTo += probability;
    entries.push({ length, upTo });
    // Below the mean a probability under the limit is still followed by larger ones.
    if (length > lambda && probability < PROBABILITY_MIN) break;
    probability *= lambda / (length + 1);
  }
  cumulativeOfLambda.set(lambda, entries);
  return entries;
}

/** `<mask>`, or with the configured probability a random id from 3 on. */
function drawReplacement(noise: NoiseConfig, kinds: TokenKinds, rng: PhiloxRng): number {
  const isRandom = rng.nextFloat() < noise.randomTokenRatio;
  return isRandom ? drawToken(kinds, rng) : kinds.vocabSize - 1;
}

function drawToken(kinds: TokenKinds, rng: PhiloxRng): number {
  return UNK_ID + rng.nextInt(kinds.vocabSize - UNK_ID);
}

/** Inserts `count` tokens at random places between the first and the last; a fixed share of them is random. */
function insert(
  ids: Int32Array,
  count: number,
  noise: NoiseConfig,
  kinds: TokenKinds,
  rng: PhiloxRng,
): Int32Array {
  if (count <= 0) return ids;
  const out = new Int32Array(ids.length + count).fill(-1);
  const places = rng.permutation(out.length - 2).subarray(0, count);
  // As published, this share is rounded up: a single insertion is always a random token.
  const randomCount = Math.ceil(count * noise.randomTokenRatio);
  places.forEach((place, index) => {
    out[place + 1] = index < randomCount ? drawToken(kinds, rng) : kinds.vocabSize - 1;
  });
  let next = 0;
  for (let place = 0; place < out.length; place += 1) {
    if (out[place] !== -1) continue;
    out[place] = ids[next]!;
    next += 1;
  }
  return out;
}
