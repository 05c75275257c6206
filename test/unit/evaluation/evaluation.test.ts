/** What is read, what is measured and what is said, with a generator whose times are known. */
import { describe, expect, it } from 'vitest';
import {
  evaluationRow,
  type GenerationFigures,
  linesOf,
  measure,
  qualityTable,
  readTexts,
  referencesBeside,
  speedTable,
  type TextSource,
} from '../../../src/evaluation/index.ts';
import {
  GENERATION_DEFAULTS,
  type GeneratedText,
  type GenerationOptions,
} from '../../../src/generation/index.ts';
import { errorOf, temporaryFolder, writeInto } from '../../support/data-files.ts';

/** Gives each text back, a token for each word; the call takes 10 ms and one more for each call before. */
class EchoGenerator implements TextSource {
  readonly calls: { texts: readonly string[]; options: GenerationOptions }[] = [];

  async generate(texts: readonly string[], options: GenerationOptions): Promise<GeneratedText[]> {
    this.calls.push({ texts, options });
    const modelMs = 9 + this.calls.length;
    return texts.map((text) => {
      const words = text.split(' ').filter((word) => word !== '');
      const ended = words.length < 4;
      return {
        text,
        tokens: words.map((word) => ({ id: word.length, text: word, layer: 1, entropy: 0, probability: 1 })),
        meanLayer: words.length,
        sourceTokens: words.length,
        cutTo: words.length > 3 ? 3 : null,
        ended,
        ...{ modelMs, encoderMs: 4, decoderMs: modelMs - 4 },
      };
    });
  }
}

describe('measure', () => {
  it('counts what comes after the warm-up, one by one and in batches', async () => {
    const generator = new EchoGenerator();
    const sources = ['a', 'b b', 'c cc ccc d', 'e', 'f'];
    const shares: number[] = [];
    const measured = await measure(generator, sources, {
      generation: GENERATION_DEFAULTS,
      batchSize: 2,
      latencyTexts: 4,
      onProgress: (share) => shares.push(share),
    });
    const sizes = generator.calls.map(({ texts }) => texts.length);
    expect(sizes, 'three and one to warm up').toEqual([...[1, 1, 1], ...[1, 1, 1, 1], 2, ...[2, 2, 1]]);
    // Calls 4 to 7 take 13 to 16 ms, calls 9 to 11 take 18 to 20 ms.
    expect(measured.latency).toEqual({
      texts: 4,
      medianMs: 14,
      p90Ms: 16,
      encoderMedianMs: 4,
      decoderMedianMs: 10,
    });
    expect(measured.throughput.textsPerSecond).toBeCloseTo(5000 / (18 + 19 + 20), 9);
    expect(measured.throughput.tokensPerSecond).toBeCloseTo(9000 / (18 + 19 + 20), 9);
    expect(measured.hypotheses).toEqual(sources);
    expect(shares.at(-1)).toBe(1);
    expect(shares).toHaveLength(7);
  });

  it('weighs layers by tokens, ends counted, and tells what was cut or did not end', async () => {
    const measured = await measure(new EchoGenerator(), ['a', 'c cc ccc d'], {
      generation: GENERATION_DEFAULTS,
      batchSize: 8,
      latencyTexts: 1,
    });
    // One token and its end from layer 1, four tokens from layer 4.
    expect(measured.meanLayer).toBeCloseTo((2 * 1 + 4 * 4) / 6, 12);
    expect(measured.ended).toBe(1);
    expect(measured.cut).toBe(1);
    expect(measured.tokenRepetitionRate).toBe(0);
  });

  it('leaves repeated words to the scores, and has no mean layer where nothing was generated', async () => {
    const generator = new EchoGenerator();
    const options = { generation: GENERATION_DEFAULTS, batchSize: 8, latencyTexts: 1 };
    expect((await measure(generator, ['so so on'], options)).tokenRepetitionRate).toBe(2 / 3);
    expect(generator.calls.every(({ options: { removeRepeats } }) => !removeRepeats)).toBe(true);
  });
});

describe('the tables', () => {
  const figures: GenerationFigures = {
    kind: 'lplm',
    step: 8,
    decoderLayers: 6,
    options: { ...GENERATION_DEFAULTS, threshold: 0.25 },
    meanLayer: 3.5,
    tokenRepetitionRate: 0.125,
    ended: 1,
    cut: 0,
    latency: { texts: 2, medianMs: 3, p90Ms: 4.5, encoderMedianMs: 1, decoderMedianMs: 2 },
    throughput: { batchSize: 16, textsPerSecond: 500, tokensPerSecond: 4321 },
  };

  it('have a row for each model, and one more where words repeat', () => {
    const repeating = evaluationRow('runs/a', ['so so on', 'on'], [['so on'], ['on']], figures, {});
    const [title, kept, removed, ...none] = qualityTable([repeating]);
    expect(title).toMatch(/^model +exit +repeats +R-1 +R-2 +R-L +B-1 .* METEOR +D-1 +D-2 +rep +words$/);
    expect(kept).toMatch(/^runs\/a +hard 0\.25 +kept +90\.00 /);
    expect(removed).toMatch(/^runs\/a +hard 0\.25 +removed +100\.00 .* 100\.00 .* 0\.00 +1\.5$/);
    expect(none).toEqual([]);
    const plain = evaluationRow('x.txt', ['so on '], [['so on']], null, {});
    expect(plain.scoresWithoutRepeats, 'white space at the end is no repeat').toBeNull();
    expect(qualityTable([plain])).toHaveLength(2);
  });

  it('show times of what was generated only', () => {
    const row = evaluationRow('runs/a', ['a', 'b'], [['a'], ['b']], figures, {});
    const greedy = {
      ...row,
      generation: { ...figures, kind: 'autoregressive' as const, meanLayer: null },
    };
    const [, first, second] = speedTable([row, greedy]);
    expect(first?.split(/ {2,}/)).toEqual([
      'runs/a',
      'hard 0.25',
      '3.50 of 6',
      '3.00',
      '4.50',
      '1.00',
      '2.00',
      '500.0',
      '4321',
      '50.0%',
      '12.50',
    ]);
    expect(second).toMatch(/greedy +- +3\.00/);
    expect(speedTable([{ ...row, generation: null }])).toEqual([]);
  });
});

describe('files of texts', () => {
  it('hold a text on each line, trimmed and composed', async () => {
    const file = writeInto(temporaryFolder(), 'a.txt', '\ufeff one \r\ncafe\u0301\nlast');
    expect((await readTexts(file, { mayBeEmpty: false })).texts).toEqual(['one', 'café', 'last']);
  });

  it('are refused by name and line', async () => {
    const folder = temporaryFolder();
    const write = (name: string, content: string | Uint8Array) => writeInto(folder, name, content);
    const refusal = async (file: string) => errorOf(() => readTexts(file, { mayBeEmpty: false }));
    const gap = write('gap.txt', 'a\n \nb\n');
    expect((await refusal(gap)).message).toMatch(/gap\.txt: line 2 is empty: take the line out/);
    expect((await readTexts(gap, { mayBeEmpty: true })).texts).toEqual(['a', '', 'b']);
    expect((await refusal(write('none.txt', ''))).message).toMatch(/none\.txt: holds no line/);
    expect(await refusal(write('latin.txt', Buffer.from([0x61, 0x0a, 0xe9, 0x0a])))).toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/latin\.txt: the line at byte 2 is not UTF-8/),
    });
    expect((await refusal(`${folder}/missing.txt`)).code).toBe('DATA_MISSING');
    expect((await refusal(folder)).code).toBe('DATA_MISSING');
  });

  it('must have as many lines as what they stand beside', async () => {
    const beside = { file: 'h.txt', texts: ['a', 'b'] };
    const references = [
      { file: 'r1.txt', texts: ['x', 'y'] },
      { file: 'r2.txt', texts: ['z', 'w'] },
    ];
    expect(referencesBeside(beside, references)).toEqual([
      ['x', 'z'],
      ['y', 'w'],
    ]);
    const error = await errorOf(() => referencesBeside(beside, [{ file: 'r.txt', texts: ['x'] }]));
    expect(error.message).toBe('r.txt: has 1 lines, h.txt has 2: line by line they must belong together');
  });

  it('are written so that each text keeps its line', () => {
    expect(linesOf([' a\nb ', '', 'c'])).toBe('a b\n\nc\n');
  });
});
