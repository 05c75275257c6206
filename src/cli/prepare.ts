/** `lockstep prepare`: text to data set. */
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import {
  INPUT_FORMATS,
  type InputFormat,
  type PreparedDataset,
  type PrepareProgress,
  prepareDataset,
} from '../data/index.ts';
import { atLeastOne, wholeNumber } from './flags.ts';
import { formatCount, isTerminal, runCommand, say, warn } from './terminal.ts';

interface PrepareFlags {
  readonly out: string;
  readonly vocabSize?: number;
  readonly tokenizer?: string;
  readonly format?: string;
  readonly threads?: number;
  readonly minCharacters?: number;
  readonly allowTruncated?: boolean;
  readonly force?: boolean;
}

const DEFAULT_VOCAB_SIZE = 8000;
const PROGRESS_INTERVAL_MS = 100;

export function addPrepareCommand(program: Command): void {
  program
    .command('prepare')
    .description('make a data set of a MediaWiki dump (.xml, .xml.bz2), JSON lines or plain text')
    .argument('<inputs...>', 'files, read in this order')
    .requiredOption('--out <dir>', 'folder of the data set')
    .option(
      '--vocab-size <n>',
      `train a byte-level BPE tokenizer of this size (default: ${DEFAULT_VOCAB_SIZE})`,
      wholeNumber,
    )
    .option(
      '--tokenizer <path>',
      'use a tokenizer instead: tokenizer.json, or a folder with vocabulary and merges',
    )
    .option('--format <name>', `format of all inputs: ${INPUT_FORMATS.join(', ')} (default: by file name)`)
    .option('--threads <n>', 'cleaning threads (default: one per core)', atLeastOne)
    .option('--min-characters <n>', 'drop shorter articles', wholeNumber)
    .option('--allow-truncated', 'use what is whole of inputs that were cut short')
    .option('--force', 'replace a data set that lies in --out')
    .action((inputs: string[], flags: PrepareFlags) => runCommand(() => prepare(inputs, flags)));
}

async function prepare(inputs: readonly string[], flags: PrepareFlags): Promise<number> {
  const startMs = performance.now();
  const format = INPUT_FORMATS.find((name) => name === flags.format);
  if (flags.format !== undefined && format === undefined) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `--format ${flags.format}: expected one of ${INPUT_FORMATS.join(', ')}`,
    );
  }
  if (flags.vocabSize !== undefined && flags.tokenizer !== undefined) {
    throw new LockstepError(
      'CONFIG_INVALID',
      '--vocab-size trains a tokenizer and --tokenizer takes one: give either',
    );
  }
  const { onProgress, end } = progressLine();
  const prepared = await prepareDataset({
    inputs,
    outDir: flags.out,
    vocabSize: flags.tokenizer === undefined ? (flags.vocabSize ?? DEFAULT_VOCAB_SIZE) : undefined,
    tokenizerPath: flags.tokenizer,
    format: format as InputFormat | undefined,
    threads: flags.threads ?? availableParallelism(),
    minCharacters: flags.minCharacters,
    allowTruncated: flags.allowTruncated,
    force: flags.force,
    onProgress,
    onWarning: (message) => {
      end();
      warn(message);
    },
  }).finally(end);
  for (const line of describeDataset(flags.out, prepared)) say(line);
  say(`done in ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  return 0;
}

export function describeDataset(dir: string, { sha256, manifest }: PreparedDataset): string[] {
  const { report, vocabSize, tokens } = manifest;
  const dropped = Object.entries(report.dropped)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => `${formatCount(count)} ${reason}`);
  return [
    `${dir}: ${formatCount(report.articlesKept)} articles, ${formatCount(tokens)} tokens of a vocabulary of ${formatCount(vocabSize)}`,
    `  read ${formatCount(report.articlesRead)}, dropped ${dropped.length === 0 ? 'none' : dropped.join(', ')}`,
    `  data set ${sha256}`,
  ];
}

/** A live line on a terminal; nothing otherwise. */
function progressLine(): { onProgress(progress: PrepareProgress): void; end(): void } {
  let lastMs = 0;
  let shown = false;
  return {
    onProgress({ phase, done, total, articles }) {
      const nowMs = performance.now();
      if (!isTerminal || nowMs - lastMs < PROGRESS_INTERVAL_MS) return;
      lastMs = nowMs;
      shown = true;
      const share = total === 0 ? 100 : Math.floor((100 * done) / total);
      process.stdout.write(`\r\u001b[2K${phase} ${share} %  ${formatCount(articles)} articles`);
    },
    end() {
      if (shown) process.stdout.write('\r\u001b[2K');
      shown = false;
    },
  };
}
