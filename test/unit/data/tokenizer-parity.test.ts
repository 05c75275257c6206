/** What Hugging Face's tokenizers make of our `tokenizer.json`: the same ids as we, on ten thousand real lines. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { describe, expect, it } from 'vitest';
import {
  type BpeTokenizer,
  loadTokenizer,
  tokenizerToJson,
  trainBpe,
  WordCounter,
} from '../../../src/data/tokenizer/index.ts';
import { SHARED_DATA, temporaryFolder, writeInto } from '../../support/data-files.ts';
import { REAL_LINES, realLines } from '../../support/real-lines.ts';

const lines = realLines();
const words = new WordCounter();
for (const line of lines) words.add(line);
const trained = trainBpe(words.counts, 8000);

const bartFiles = join(SHARED_DATA, 'bart-gpt2-bpe');
const tokenizers: [string, BpeTokenizer][] = [['a vocabulary trained here', trained]];
if (existsSync(bartFiles)) tokenizers.push(["BART's vocabulary", loadTokenizer(bartFiles)]);

/** The lines whose ids differ, with both: short enough to be read in a failure. */
function differing(tokenizer: BpeTokenizer, idsOf: (line: string, index: number) => readonly number[]) {
  return lines
    .map((line, index) => ({
      line,
      ours: tokenizer.encode(line).join(' '),
      theirs: idsOf(line, index).join(' '),
    }))
    .filter(({ ours, theirs }) => ours !== theirs)
    .slice(0, 5);
}

describe('the lines', () => {
  it('are ten thousand different ones of every kind', () => {
    expect(new Set(lines).size).toBe(REAL_LINES);
    const having = (pattern: RegExp) => lines.filter((line) => pattern.test(line)).length;
    expect(having(/\p{Extended_Pictographic}/u)).toBeGreaterThan(20);
    expect(having(/\p{N}{4,}/u)).toBeGreaterThan(200);
    expect(having(/[;{}]\s*$|=>|\bconst\b/)).toBeGreaterThan(2000);
    expect(having(/[\u0100-\uffff]/)).toBeGreaterThan(60);
  });
});

describe.each(tokenizers)('%s gives the same ids', (_, tokenizer) => {
  it('in @huggingface/tokenizers', () => {
    const oracle = new Tokenizer(JSON.parse(tokenizerToJson(tokenizer)), {});
    expect(differing(tokenizer, (line) => oracle.encode(line, { add_special_tokens: false }).ids)).toEqual(
      [],
    );
  });

  it('in the tokenizers package of npm', async ({ skip }) => {
    const native = nativeTokenizers();
    if (native === null) skip('needs the npm package tokenizers, here or on NODE_PATH');
    const oracle = native!.Tokenizer.fromString(tokenizerToJson(tokenizer));
    const encodings = await Promise.all(
      lines.map((line) => oracle.encode(line, null, { addSpecialTokens: false })),
    );
    expect(differing(tokenizer, (_line, index) => encodings[index]!.getIds())).toEqual([]);
  });

  it('in the tokenizers package of Python', ({ skip }) => {
    if (python('import tokenizers') === null) skip('needs python3 with the package tokenizers');
    const folder = temporaryFolder();
    const file = writeInto(folder, 'tokenizer.json', tokenizerToJson(tokenizer));
    const input = writeInto(folder, 'lines.json', JSON.stringify(lines));
    const answer = python(ENCODE_LINES, file, input);
    expect(answer).not.toBeNull();
    const ids = JSON.parse(answer!) as number[][];
    expect(differing(tokenizer, (_line, index) => ids[index]!)).toEqual([]);
  });
});

const ENCODE_LINES = `
import json, sys
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
lines = json.load(open(sys.argv[2], encoding="utf-8"))
print(json.dumps([e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]))
`;

function python(script: string, ...args: string[]): string | null {
  try {
    return execFileSync('python3', ['-c', script, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: 2 ** 26,
    });
  } catch {
    return null;
  }
}

interface NativeTokenizers {
  readonly Tokenizer: {
    fromString(json: string): {
      encode(
        text: string,
        pair: null,
        options: { addSpecialTokens: boolean },
      ): Promise<{ getIds(): number[] }>;
    };
  };
}

/** Not a dependency: it is looked for where Node.js looks, and its absence skips a test. */
function nativeTokenizers(): NativeTokenizers | null {
  try {
    return createRequire(import.meta.url)('tokenizers') as NativeTokenizers;
  } catch {
    return null;
  }
}
