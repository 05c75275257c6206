/**
 * `lockstep generate PLACE`: texts in, texts out, a line each, in order. Lines are read, generated and written
 * batch by batch, so that a file may be of any size; an output file gets its name when it is whole.
 */
import { once } from 'node:events';
import { createReadStream, createWriteStream, renameSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Command, Option } from 'commander';
import { LockstepError, messageOf } from '../base/index.ts';
import { readLines } from '../data/index.ts';
import { type GeneratedText, TextGenerator } from '../generation/index.ts';
import { atLeastOne } from './flags.ts';
import {
  addGenerationFlags,
  addModelFlags,
  type GenerationFlags,
  generationOptionsOf,
  type ModelFlags,
  openOptionsOf,
} from './generation-flags.ts';
import { formatCount, runCommand, warn } from './terminal.ts';

interface GenerateFlags extends ModelFlags, GenerationFlags {
  readonly text: readonly string[];
  readonly input?: string;
  readonly output?: string;
  readonly json?: boolean;
  readonly batchSize: number;
}

export function addGenerateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('generate a text for each text given: from flags, a file, or standard input')
    .argument('<place>', 'folder of a run, or of a model as Hugging Face lays it out')
    .addOption(
      new Option('--text <text>', 'a source; repeatable')
        .argParser((value: string, earlier: string[]) => [...earlier, value])
        .default([], 'none'),
    )
    .option('--input <file>', 'a source on each line (default: standard input)')
    .option('--output <file>', 'write here instead of to standard output')
    .option('--json', 'an object on each line: text, tokens, their layers and confidences')
    .option('--batch-size <n>', 'texts that are generated together', atLeastOne, 8);
  addGenerationFlags(addModelFlags(command)).action((place: string, flags: GenerateFlags) =>
    runCommand(() => generate(place, flags)),
  );
}

async function generate(place: string, flags: GenerateFlags): Promise<number> {
  if (flags.text.length > 0 && flags.input !== undefined) {
    throw new LockstepError('CONFIG_INVALID', `--input ${flags.input}: give either --text or --input`);
  }
  const generator = await TextGenerator.open(place, openOptionsOf(flags));
  try {
    const options = generationOptionsOf(flags, generator.facts);
    const output = new LineOutput(flags.output ?? null);
    let numCut = 0;
    try {
      for await (const texts of batchesOf(sourcesOf(flags), flags.batchSize)) {
        for (const generated of await generator.generate(texts, options)) {
          if (generated.cutTo !== null) numCut += 1;
          await output.write(lineOf(generated, flags.json === true));
        }
      }
    } finally {
      // What was generated before a failure is in the file when the failure is told.
      await output.close();
    }
    output.giveName();
    if (numCut > 0) {
      const most = formatCount(generator.facts.sourceLengthMax);
      warn(`${formatCount(numCut)} sources were longer than the model reads and were cut to ${most} tokens`);
    }
    return 0;
  } finally {
    await generator.close();
  }
}

function lineOf(generated: GeneratedText, isJson: boolean): string {
  // One output is one line: what a model breaks a line with is white space like any other.
  return isJson ? JSON.stringify(generated) : generated.text.replace(/\s+/g, ' ').trim();
}

async function* sourcesOf({ text, input }: GenerateFlags): AsyncGenerator<string> {
  if (text.length > 0) {
    for (const [index, given] of text.entries()) {
      if (given.trim() === '') {
        throw new LockstepError('CONFIG_INVALID', `--text number ${index + 1} is empty: give it a text`);
      }
      yield given;
    }
    return;
  }
  const name = input ?? 'standard input';
  const stream = input === undefined ? process.stdin : createReadStream(input);
  let line = 1;
  try {
    for await (const { text: found } of readLines(stream as AsyncIterable<Buffer>, name)) {
      if (found.trim() === '') {
        const reason = `${name}: line ${line} is empty: give each line a text, as outputs go by line`;
        throw new LockstepError('DATA_CORRUPT', reason, { context: { file: name, line } });
      }
      yield found;
      line += 1;
    }
  } catch (cause) {
    if (!(cause instanceof LockstepError)) {
      throw new LockstepError('DATA_MISSING', `--input ${name} cannot be read: ${messageOf(cause)}`, {
        cause,
      });
    }
    if (cause.context.line !== undefined) throw cause;
    throw new LockstepError(cause.code, `line ${line} of ${cause.message}`, { context: { line }, cause });
  }
}

async function* batchesOf(texts: AsyncIterable<string>, size: number): AsyncGenerator<string[]> {
  let batch: string[] = [];
  try {
    for await (const text of texts) {
      batch.push(text);
      if (batch.length < size) continue;
      yield batch;
      batch = [];
    }
  } catch (error) {
    // What came before a bad line is still generated.
    if (batch.length > 0) yield batch;
    throw error;
  }
  if (batch.length > 0) yield batch;
}

/** Lines to standard output, or to a file that is called `.partial` until `giveName`. */
class LineOutput {
  readonly #path: string | null;
  readonly #stream: Writable;
  #failure: Error | null = null;

  constructor(path: string | null) {
    this.#path = path;
    this.#stream = path === null ? process.stdout : createWriteStream(`${path}.partial`);
    // Standard output that fails ends the process: see output.ts.
    if (path !== null) {
      this.#stream.on('error', (error) => {
        this.#failure = error;
      });
    }
  }

  async write(line: string): Promise<void> {
    this.#check();
    if (!this.#stream.write(`${line}\n`)) await Promise.race([once(this.#stream, 'drain'), this.#failed()]);
    this.#check();
  }

  /** Returns when every line is in the file, or has failed to get there. */
  async close(): Promise<void> {
    if (this.#path === null) return;
    this.#stream.end();
    await finished(this.#stream).catch(() => {});
  }

  giveName(): void {
    if (this.#path === null) return;
    this.#check();
    renameSync(`${this.#path}.partial`, this.#path);
  }

  async #failed(): Promise<void> {
    await once(this.#stream, 'close');
  }

  #check(): void {
    if (this.#failure === null) return;
    const reason = `--output ${this.#path} could not be written (${messageOf(this.#failure)}): name a file in a folder that exists and has space`;
    throw new LockstepError('DISK_FULL', reason, { cause: this.#failure });
  }
}
