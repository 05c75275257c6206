import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Tokenizer } from '@huggingface/tokenizers';
import { describe, expect, it } from 'vitest';
import {
  type BpeTokenizer,
  loadTokenizer,
  tokenizerFromJson,
  tokenizerToJson,
  trainBpe,
  VOCAB_SIZE_MIN,
  WordCounter,
  type WordCounterLimits,
} from '../../../src/data/tokenizer/index.ts';
import { preTokenize } from '../../../src/data/tokenizer/pre-tokenize.ts';
import { errorOf, SHARED_DATA, sampleText, temporaryFolder, writeInto } from '../../support/data-files.ts';

const AWKWARD = [
  '',
  ' ',
  '   leading and trailing   ',
  "I'll don't WE'VE it's 'tis",
  'tabs\tand\nlines\r\n\n  end',
  'numbers 1234567890 3.14 v2.0',
  'Ünïcödé — “quotes” … 日本語 العربية 😀👩‍👩‍👧',
  'a'.repeat(300),
  '\u0000\u0001\u007f',
  'non\u00a0breaking',
  '!!!??? ... --- ((([[[',
];

function train(texts: readonly string[], vocabSize: number): BpeTokenizer {
  const words = new WordCounter();
  for (const text of texts) words.add(text);
  return trainBpe(words.counts, vocabSize);
}

const corpus = Array.from({ length: 40 }, (_, seed) => sampleText(seed, 12));
const small = train([...corpus, ...AWKWARD], 360);

describe('preTokenize', () => {
  it("splits as GPT-2's expression does", () => {
    expect(preTokenize("It's  3 dogs' \n\n\tx!")).toEqual([
      'It',
      "'s",
      ' ',
      ' 3',
      ' dogs',
      "'",
      ' \n\n',
      '\t',
      'x',
      '!',
    ]);
  });
});

describe('trainBpe', () => {
  it("has BART's layout: specials, bytes, merges, <mask>", () => {
    expect(small.vocabSize).toBe(360);
    expect(small.tokens.slice(0, 5)).toEqual(['<s>', '<pad>', '</s>', '<unk>', '!']);
    expect(small.tokens[small.maskId]).toBe('<mask>');
    expect(new Set(small.tokens).size).toBe(360);
  });

  it('does not depend on the order of texts', () => {
    const reversed = train([...corpus, ...AWKWARD].reverse(), 360);
    expect(reversed.tokens).toEqual(small.tokens);
    expect(reversed.merges).toEqual(small.merges);
  });

  it('stops where no pair occurs twice, and needs no text at all', () => {
    expect(trainBpe(new Map([['ab', 1]]), 1000).vocabSize).toBe(VOCAB_SIZE_MIN);
    expect(trainBpe(new Map([['ab', 2]]), 1000).vocabSize).toBe(VOCAB_SIZE_MIN + 1);
    const bytesOnly = trainBpe(new Map(), VOCAB_SIZE_MIN);
    expect(bytesOnly.decode(bytesOnly.encode('Grüße'))).toBe('Grüße');
  });
});

describe('WordCounter', () => {
  const texts = Array.from({ length: 400 }, (_, seed) => `${sampleText(seed, 3)} Number ${seed}.`);
  const countsOf = (given: readonly string[], limits: WordCounterLimits) => {
    const words = new WordCounter(limits);
    for (const text of given) words.add(text);
    return words;
  };

  it('counts every text while all of it fits', () => {
    const words = countsOf(['a b a', 'b'], {});
    expect(words.samplingFactor).toBe(1);
    expect([...words.counts].sort()).toEqual([
      [' a', 1],
      [' b', 1],
      ['a', 1],
      ['b', 1],
    ]);
  });

  it.each<WordCounterLimits>([{ characters: 6000 }, { words: 150 }])(
    'keeps the same fair sample within %j whatever the order',
    (limits) => {
      const forwards = countsOf(texts, limits);
      const shuffled = [...texts].sort((a, b) => a.slice(20).localeCompare(b.slice(20)));
      const sideways = countsOf(shuffled, limits);
      expect(new Map(sideways.counts)).toEqual(new Map(forwards.counts));
      expect(sideways.samplingFactor).toBe(forwards.samplingFactor);
      expect(forwards.samplingFactor).toBeGreaterThan(1);
      // "Number" stands once in each text: the sample's share of the texts is near what it says.
      const kept = forwards.counts.get(' Number')!;
      expect(kept * forwards.samplingFactor).toBeGreaterThan(texts.length / 2);
      expect(kept * forwards.samplingFactor).toBeLessThan(texts.length * 2);
    },
  );

  it('does not hold on to the texts its words came from', () => {
    setFlagsFromString('--expose-gc');
    const collectGarbage = runInNewContext('gc') as () => void;
    const words = new WordCounter();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let text = 0; text < 300; text += 1) {
      words.add(
        `${'the '.repeat(25_000)} incomprehensibility${String.fromCharCode(97 + (text % 26)).repeat(1 + text / 26)}`,
      );
    }
    collectGarbage();
    const keptBytes = process.memoryUsage().heapUsed - before;
    expect(words.counts.size).toBeGreaterThan(250);
    expect(keptBytes).toBeLessThan(5_000_000);
  });
});

describe('BpeTokenizer', () => {
  it.each(AWKWARD)('gives %j back', (text) => {
    expect(small.decode(small.encode(text))).toBe(text);
  });

  it('treats special tokens in text as text', () => {
    const ids = small.encode('<s> </s> <mask>');
    expect(ids.some((id) => id < 4 || id === small.maskId)).toBe(false);
    expect(small.decode([0, ...ids, 2, 1, 1])).toBe('<s> </s> <mask>');
  });

  it('replaces unpaired surrogates', () => {
    expect(small.decode(small.encode('a\ud800b'))).toBe('a\ufffdb');
  });

  it('encodes a megabyte without a space in reasonable time', () => {
    expect(small.encode('theorem'.repeat(30_000)).length).toBeGreaterThan(1000);
  });
});

describe('tokenizer.json', () => {
  it('survives saving and loading, to the byte', () => {
    const text = tokenizerToJson(small);
    const loaded = tokenizerFromJson(text, 'tokenizer.json');
    expect(loaded.tokens).toEqual(small.tokens);
    expect(loaded.merges).toEqual(small.merges);
    expect(tokenizerToJson(loaded)).toBe(text);
  });

  it('accepts merges written as one string', () => {
    const json = JSON.parse(tokenizerToJson(small));
    json.model.merges = json.model.merges.map((pair: [string, string]) => pair.join(' '));
    expect(tokenizerFromJson(JSON.stringify(json), 'x').merges).toEqual(small.merges);
  });

  type Json = ReturnType<typeof JSON.parse>;
  it.each<[string, (json: Json) => void, string]>([
    ['another model', (json) => (json.model.type = 'WordPiece'), 'model.type'],
    ['a prefix space', (json) => (json.pre_tokenizer.add_prefix_space = true), 'add_prefix_space'],
    ['a normalizer', (json) => (json.normalizer = { type: 'NFKC' }), 'normalizer'],
    ['a gap in the ids', (json) => (json.model.vocab['!'] = 10_000), 'has id 10000'],
    ['two tokens of one id', (json) => (json.model.vocab['!'] = 9), 'share id 9'],
    [
      '<mask> elsewhere',
      (json) => {
        json.added_tokens = [];
        json.model.vocab['<mask>'] = json.model.vocab['!'];
        json.model.vocab['!'] = small.maskId;
      },
      'special token <mask> has id 4',
    ],
    ['a merge of no token', (json) => json.model.merges.push(['qq', 'zz']), 'which is no token'],
  ])('refuses %s', async (_, damage, message) => {
    const json = JSON.parse(tokenizerToJson(small));
    damage(json);
    const error = await errorOf(() => tokenizerFromJson(JSON.stringify(json), 'some/tokenizer.json'));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain('some/tokenizer.json');
    expect(error.message).toContain(message);
  });

  it('names a path that holds no tokenizer', async () => {
    const folder = temporaryFolder();
    expect((await errorOf(() => loadTokenizer(folder))).message).toContain('holds no tokenizer');
    expect((await errorOf(() => loadTokenizer(join(folder, 'x')))).message).toContain('does not exist');
    const path = writeInto(folder, 'tokenizer.json', tokenizerToJson(small));
    expect(loadTokenizer(folder).tokens).toEqual(loadTokenizer(path).tokens);
  });
});

/** The reference implementation, loaded with what we save; ids without special tokens. */
function oracleOf(tokenizer: BpeTokenizer): (text: string) => number[] {
  const oracle = new Tokenizer(JSON.parse(tokenizerToJson(tokenizer)), {});
  return (text) => oracle.encode(text, { add_special_tokens: false }).ids;
}

describe('parity with @huggingface/tokenizers', () => {
  it('gives the same ids for awkward texts', () => {
    const oracle = oracleOf(small);
    for (const text of [...corpus, ...AWKWARD.filter((text) => text !== '')]) {
      expect(small.encode(text), text).toEqual(oracle(text));
    }
  });
});

const bartFiles = join(SHARED_DATA, 'bart-gpt2-bpe');

describe.skipIf(!existsSync(bartFiles))("BART's vocabulary (skipped: shared data are absent)", () => {
  // Loaded lazily, so that a skipped suite reads nothing.
  const bart = existsSync(bartFiles) ? loadTokenizer(bartFiles) : small;

  it("has BART's ids", () => {
    expect(bart.vocabSize).toBe(50_265);
    expect(bart.maskId).toBe(50_264);
    // As published: tokenizer("Hello world") of facebook/bart-base is 0 31414 232 2.
    expect(bart.encode('Hello world')).toEqual([31_414, 232]);
    expect(bart.tokens[4]).toBe('.');
    expect(bart.tokens[479]).toBe('Ġ.');
  });

  it('loads the same from vocab.json and merges.txt', () => {
    const folder = temporaryFolder();
    const vocab = Object.fromEntries(bart.tokens.map((token, id) => [token, id]));
    writeInto(folder, 'vocab.json', JSON.stringify(vocab));
    writeInto(folder, 'merges.txt', readFileSync(join(bartFiles, 'vocab.bpe')));
    const loaded = loadTokenizer(folder);
    expect(loaded.tokens).toEqual(bart.tokens);
    expect(loaded.merges).toEqual(bart.merges);
  });
});
