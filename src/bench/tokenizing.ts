/**
 * Encoding speed of our tokenizer beside Hugging Face's two for Node.js: their JavaScript package, which is
 * among the development packages, and their native one, which is installed into a cache folder once.
 *
 * All open the same `tokenizer.json` and encode the same articles, and must agree on every id. Each round
 * takes fresh tokenizers, so that nobody profits from words remembered from the round before; the native one
 * gets all articles in one call, which is its fastest way and uses all cores.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { messageOf } from '../base/index.ts';
import { cacheFolder } from '../cli/index.ts';
import { tokenizerFromJson, tokenizerToJson, trainBpe, WordCounter } from '../data/index.ts';
import { type Summary, summarize } from './statistics.ts';

const CORPUS = fileURLToPath(new URL('../../corpus/encyclopedia.xml', import.meta.url));
const VOCAB_SIZE = 8000;
const NATIVE = 'tokenizers@0.23.2';
const INSTALL_LIMIT_MS = 120_000;

export interface TokenizingPeer {
  readonly name: string;
  /** Megabytes of UTF-8 per second; null where it cannot be had. */
  readonly speed: Summary | null;
  /** Median of Lockstep over median of the peer. */
  readonly ratio: number | null;
  readonly skipped: string | null;
}

export interface TokenizingFigures {
  readonly megabytes: number;
  readonly articles: number;
  readonly lockstep: Summary;
  readonly peers: readonly TokenizingPeer[];
}

/** The ids of each text, from a tokenizer made for this call; only the encoding is timed. */
type Encoding = (
  json: string,
  texts: readonly string[],
) => Promise<{ ids: number[][]; milliseconds: number }>;

export async function compareTokenizing(
  rounds: number,
  note: (line: string) => void,
): Promise<TokenizingFigures> {
  const texts = (await readFile(CORPUS, 'utf8')).split('</page>');
  const words = new WordCounter();
  for (const text of texts) words.add(text);
  const json = tokenizerToJson(trainBpe(words.counts, VOCAB_SIZE));
  const megabytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0) / 1e6;
  const systems = [
    { name: 'lockstep', encode: encodeHere },
    { name: '@huggingface/tokenizers', encode: encodeWithScript },
    { name: NATIVE, encode: encodeNatively(note) },
  ].map((system) => ({ ...system, speeds: [] as number[], skipped: null as string | null }));
  let expected: string | null = null;
  for (let round = 1; round <= rounds; round += 1) {
    note(`tokenizing, round ${round} of ${rounds}`);
    for (const system of systems) {
      if (system.skipped !== null) continue;
      try {
        const { ids, milliseconds } = await system.encode(json, texts);
        expected ??= JSON.stringify(ids);
        if (JSON.stringify(ids) !== expected) throw new Error('its ids differ from ours');
        system.speeds.push((megabytes * 1000) / milliseconds);
      } catch (error) {
        system.skipped = messageOf(error);
      }
    }
  }
  const [ours, ...theirs] = systems;
  if (ours!.skipped !== null) throw new Error(ours!.skipped);
  const lockstep = summarize(ours!.speeds);
  const peers = theirs.map(({ name, speeds, skipped }) => {
    const speed = skipped === null ? summarize(speeds) : null;
    return { name, speed, ratio: speed === null ? null : lockstep.median / speed.median, skipped };
  });
  return { megabytes, articles: texts.length, lockstep, peers };
}

const encodeHere: Encoding = async (json, texts) => {
  const tokenizer = tokenizerFromJson(json, 'tokenizer.json');
  return timed(() => texts.map((text) => tokenizer.encode(text)));
};

const encodeWithScript: Encoding = async (json, texts) => {
  const { Tokenizer } = await import('@huggingface/tokenizers');
  const tokenizer = new Tokenizer(JSON.parse(json), {});
  return timed(() => texts.map((text) => tokenizer.encode(text, { add_special_tokens: false }).ids));
};

/** The part of the native package's interface that is used here. */
interface NativePackage {
  readonly Tokenizer: {
    fromString(json: string): {
      encodeBatch(texts: readonly string[], options: object): Promise<{ getIds(): number[] }[]>;
    };
  };
}

function encodeNatively(note: (line: string) => void): Encoding {
  let native: NativePackage | null = null;
  return async (json, texts) => {
    native ??= await nativePackage(note);
    const tokenizer = native.Tokenizer.fromString(json);
    const startMs = performance.now();
    const encodings = await tokenizer.encodeBatch(texts, { addSpecialTokens: false });
    const ids = encodings.map((encoding) => encoding.getIds());
    return { ids, milliseconds: performance.now() - startMs };
  };
}

async function nativePackage(note: (line: string) => void): Promise<NativePackage> {
  const folder = join(cacheFolder(), 'bench-npm');
  const load = () => createRequire(join(folder, 'from-here.js'))('tokenizers') as NativePackage;
  try {
    return load();
  } catch {
    note(`installing ${NATIVE} with npm into ${folder}, once`);
    const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--fetch-retries', '1'];
    await promisify(execFile)('npm', ['install', '--prefix', folder, ...flags, NATIVE], {
      timeout: INSTALL_LIMIT_MS,
    });
    return load();
  }
}

function timed(encode: () => number[][]): { ids: number[][]; milliseconds: number } {
  const startMs = performance.now();
  const ids = encode();
  return { ids, milliseconds: performance.now() - startMs };
}
