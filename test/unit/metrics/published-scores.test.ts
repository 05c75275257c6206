/**
 * Published scores: five systems on the XSum test set with their official ROUGE-1.5.5 scores, and nlg-eval's own
 * example. The texts are given to the project and not part of it (docs/EVALUATION.md): the tests skip without them.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { porterStem, type Stem, scoreTexts, stemmerWithExceptions } from '../../../src/metrics/index.ts';
import { commonSubsequenceLength } from '../../../src/metrics/ngrams.ts';
import { rouge } from '../../../src/metrics/rouge.ts';
import { remembering, rougeWords, spacedWords } from '../../../src/metrics/words.ts';
import { SHARED_DATA } from '../../support/data-files.ts';

const xsum = join(SHARED_DATA, 'xsum-model-predictions-rouge', 'xsum-model-predictions.tar.gz');
const examples = join(SHARED_DATA, 'nlg-eval-examples');
/** Where Debian's package wordnet-base puts WordNet's lists of irregular forms. */
const wordnet = process.env.LOCKSTEP_WORDNET ?? '/usr/share/wordnet';

const SYSTEMS = ['lead', 'ext-oracle', 'ptgen', 'convs2s', 'topic-convs2s'];

function unpacked(name: string): string {
  const bytes = execFileSync('tar', ['-xzOf', xsum, `xsum-model-predictions/${name}`], {
    maxBuffer: 64 * 1024 * 1024,
  });
  return bytes.toString('utf8').trimEnd();
}

/** `f-score >> ROUGE(1/2/3/L/SU4): 29.79/8.81/3.28/22.66/8.21`: the three that are computed here. */
function officialScores(system: string): Record<'f1' | 'precision' | 'recall', number[]> {
  const text = unpacked(`${system}-test-output.rouge`);
  const valuesOf = (name: string) => {
    const [one, two, , longest] = new RegExp(`${name} >> .*: (\\S+)`).exec(text)![1]!.split('/').map(Number);
    return [one!, two!, longest!];
  };
  return { f1: valuesOf('f-score'), precision: valuesOf('precision'), recall: valuesOf('recall') };
}

/** Compares systems with their official scores; the gold texts are read once. */
class Comparison {
  readonly #words: (text: string) => string[];
  readonly #gold: string[][][];

  constructor(rougeStem: Stem) {
    const stem = remembering(rougeStem);
    this.#words = (text) => rougeWords(text, stem);
    this.#gold = unpacked('gold-test-sentences.txt')
      .split('\n')
      .map((text) => [this.#words(text)]);
  }

  /** In points of 100, over precision, recall and F1 of the three measures. */
  largestDifference(system: string): number {
    const texts = unpacked(`${system}-test-output.txt`).split('\n');
    const { rouge1, rouge2, rougeL } = rouge(texts.map(this.#words), this.#gold);
    const official = officialScores(system);
    const differences = (['f1', 'precision', 'recall'] as const).flatMap((name) =>
      [rouge1, rouge2, rougeL].map((overlap, index) =>
        Math.abs(100 * overlap[name] - official[name][index]!),
      ),
    );
    return Math.max(...differences);
  }
}

describe.skipIf(!existsSync(xsum))('ROUGE of five systems on XSum', () => {
  it('is within 0.55 points of ROUGE-1.5.5 with Porter stems alone', { timeout: 120_000 }, () => {
    const comparison = new Comparison(porterStem);
    for (const system of SYSTEMS) {
      expect(comparison.largestDifference(system), system).toBeLessThan(0.55);
    }
  });

  it.skipIf(!existsSync(join(wordnet, 'verb.exc')))(
    "is within 0.02 points with WordNet's irregular forms",
    { timeout: 120_000 },
    () => {
      const lists = ['adj', 'adv', 'noun', 'verb'].map((name) =>
        readFileSync(join(wordnet, `${name}.exc`), 'utf8'),
      );
      const comparison = new Comparison(stemmerWithExceptions(lists));
      for (const system of SYSTEMS) {
        expect(comparison.largestDifference(system), system).toBeLessThan(0.02);
      }
    },
  );
});

describe.skipIf(!existsSync(examples))("nlg-eval's example", () => {
  const lines = (name: string) => readFileSync(join(examples, name), 'utf8').trimEnd().split('\n');
  const example = () => {
    const [texts, first, second] = ['hyp.txt', 'ref1.txt', 'ref2.txt'].map(lines);
    return { texts: texts!, references: texts!.map((_, index) => [first![index]!, second![index]!]) };
  };

  it('has the BLEU scores that its README states', () => {
    const { texts, references } = example();
    const { bleu } = scoreTexts(texts, references);
    [0.55, 0.428174, 0.284043, 0.201143].forEach((expected, index) => {
      expect(bleu[index]).toBeCloseTo(expected, 6);
    });
  });

  it('has its ROUGE_L, defined by best precision, best recall and beta 1.2, over our common subsequences', () => {
    const { texts, references } = example();
    const scores = texts.map((text, index) => {
      const words = spacedWords(text);
      const pairs = references[index]!.map(spacedWords).map((reference) => {
        const length = commonSubsequenceLength(words, reference);
        return { precision: length / words.length, recall: length / reference.length };
      });
      const precision = Math.max(...pairs.map((pair) => pair.precision));
      const recall = Math.max(...pairs.map((pair) => pair.recall));
      return ((1 + 1.2 ** 2) * precision * recall) / (recall + 1.2 ** 2 * precision);
    });
    expect((scores[0]! + scores[1]!) / 2).toBeCloseTo(0.522104, 6);
  });

  it('has a METEOR little below the whole one of 0.295797, for two of four stages are left out', () => {
    const { texts, references } = example();
    const { meteor } = scoreTexts(texts, references);
    expect(meteor).toBeLessThan(0.295797);
    expect(meteor).toBeGreaterThan(0.295797 - 0.03);
  });
});
