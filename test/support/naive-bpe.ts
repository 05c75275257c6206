/**
 * The obviously right twin of the BPE trainer and encoder: counts every pair anew for each merge, and
 * merges the leftmost pair of lowest rank one at a time. Symbols are token texts.
 */
import { ALPHABET, CHARACTER_OF_BYTE } from '../../src/data/tokenizer/byte-alphabet.ts';

export interface NaiveBpe {
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

const symbolsOf = (word: string): string[] =>
  [...new TextEncoder().encode(word)].map((byte) => CHARACTER_OF_BYTE[byte]!);

export function trainNaively(wordCounts: ReadonlyMap<string, number>, vocabSize: number): NaiveBpe {
  const tokens = ['<s>', '<pad>', '</s>', '<unk>', ...ALPHABET];
  const merges: [string, string][] = [];
  const words = [...wordCounts].map(([word, count]) => ({ symbols: symbolsOf(word), count }));
  while (tokens.length < vocabSize - 1) {
    const counts = new Map<string, number>();
    for (const { symbols, count } of words) {
      for (let place = 0; place + 1 < symbols.length; place += 1) {
        const key = `${symbols[place]} ${symbols[place + 1]}`;
        counts.set(key, (counts.get(key) ?? 0) + count);
      }
    }
    const idPair = (key: string) => key.split(' ').map((token) => tokens.indexOf(token)) as [number, number];
    const best = [...counts].sort(([a, countA], [b, countB]) => {
      const [leftA, rightA] = idPair(a);
      const [leftB, rightB] = idPair(b);
      return countB - countA || leftA - leftB || rightA - rightB;
    })[0];
    if (best === undefined || best[1] < 2) break;
    const [left, right] = best[0].split(' ') as [string, string];
    if (!tokens.includes(left + right)) tokens.push(left + right);
    if (!merges.some(([l, r]) => l === left && r === right)) merges.push([left, right]);
    for (const word of words) {
      const out: string[] = [];
      for (const symbol of word.symbols) out.push(symbol);
      for (let place = 0; place + 1 < out.length; place += 1) {
        if (out[place] === left && out[place + 1] === right) out.splice(place, 2, left + right);
      }
      word.symbols = out;
    }
  }
  return { tokens: [...tokens, '<mask>'], merges };
}

/** Ids of one word (a pre-token). */
export function encodeNaively({ tokens, merges }: NaiveBpe, word: string): number[] {
  const symbols = symbolsOf(word);
  for (;;) {
    let best = -1;
    let bestRank = Number.POSITIVE_INFINITY;
    for (let place = 0; place + 1 < symbols.length; place += 1) {
      const rank = merges.findIndex(([l, r]) => l === symbols[place] && r === symbols[place + 1]);
      if (rank !== -1 && rank < bestRank) {
        best = place;
        bestRank = rank;
      }
    }
    if (best === -1) return symbols.map((symbol) => tokens.indexOf(symbol));
    symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
  }
}
