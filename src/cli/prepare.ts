/** `lockstep prepare`: text to data set. */
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import {
  DUMPS_URL,
  INPUT_FORMATS,
  KEEPABLE,
  type Keepable,
  PREPARE_PHASES,
  type PreparedDataset,
  type PrepareProgress,
  prepareDataset,
} from '../data/index.ts';
import { findRedisServer } from '../queue/index.ts';
import { atLeastOne, wholeNumber } from './flags.ts';
import { PrepareFleet } from './prepare-fleet.ts';
import { type InputFlags, resolveInputs, sizeOfInputs } from './prepare-inputs.ts';
import { addPairFieldFlags, type PairFlags, preparePairFiles } from './prepare-pairs.ts';
import { formatCount, LiveLine, runCommand, say, warn } from './terminal.ts';

interface PrepareFlags extends InputFlags, PairFlags {
  readonly pairs?: boolean;
  readonly format?: string;
  readonly processes?: number;
  readonly redis?: string;
  readonly unitBytes?: number;
  readonly minCharacters?: number;
  readonly keep?: string;
  readonly allowTruncated?: boolean;
}

const DEFAULT_VOCAB_SIZE = 8000;
/** Below this much of input, starting processes takes longer than they save. */
const BYTES_FOR_PROCESSES = 8 * 1024 * 1024;

export function addPrepareCommand(program: Command): void {
  const command = program
    .command('prepare')
    .description(
      'make a data set of Wikipedia dumps, parquet, JSON lines or plain text; begun again, it goes on',
    )
    .argument('[inputs...]', 'files, folders, globs or http(s) addresses, read in this order')
    .requiredOption('--out <dir>', 'folder of the data set')
    .option('--wikipedia <language>', 'the newest official dump of this Wikipedia, as en or simple')
    .option('--yes', 'download what --wikipedia finds without asking')
    .option('--downloads <dir>', 'where downloads go, and stay (default: downloads within --out)')
    .option('--dumps-url <url>', "a mirror of Wikimedia's dumps", DUMPS_URL)
    .option(
      '--vocab-size <n>',
      `train a byte-level BPE tokenizer of this size (default: ${DEFAULT_VOCAB_SIZE})`,
      wholeNumber,
    )
    .option(
      '--tokenizer <path>',
      'use a tokenizer instead: tokenizer.json, or a folder with vocabulary and merges',
    )
    .option(
      '--format <name>',
      `format of all inputs: ${INPUT_FORMATS.join(', ')} (default: by name or content)`,
    )
    .option(
      '--processes <n>',
      'worker processes here (default: one per core, one for small inputs); 0 leaves all to `prepare-worker`s',
      wholeNumber,
    )
    .option('--unit-bytes <n>', 'uncompressed input that one job reads (default: 8 MiB)', atLeastOne)
    .option(
      '--redis <url>',
      'a Redis that `prepare-worker`s of other hosts reach too (default: a private one)',
    )
    .option('--min-characters <n>', 'drop shorter articles', wholeNumber)
    .option('--keep <parts>', `keep of wikitext, besides running text: ${KEEPABLE.join(',')} (default: none)`)
    .option('--allow-truncated', 'use what is whole of inputs that were cut short or damaged')
    .option('--force', 'replace a data set that lies in --out')
    .option('--pairs', 'inputs are pairs for fine-tuning: SOURCE and TARGET files in turn, or JSON lines');
  addPairFieldFlags(command).action((inputs: string[], flags: PrepareFlags) =>
    runCommand(() => prepare(inputs, flags)),
  );
}

/** What means nothing for pairs. */
const TEXT_FLAGS = [
  'wikipedia',
  'yes',
  'downloads',
  'format',
  'processes',
  'redis',
  'unitBytes',
  'minCharacters',
  'keep',
  'allowTruncated',
] as const;

async function prepare(names: readonly string[], flags: PrepareFlags): Promise<number> {
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
  if (flags.pairs === true) {
    const flag = TEXT_FLAGS.find((name) => flags[name] !== undefined);
    if (flag === undefined) return await preparePairFiles(names, flags);
    const name = flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new LockstepError('CONFIG_INVALID', `--${name} does not apply to --pairs: leave it out`);
  }
  const inputs = await resolveInputs(names, flags);
  const line = new LiveLine();
  const warnAside = (message: string) => {
    line.end();
    warn(message);
  };
  const fleet = await startFleet(inputs, flags, warnAside);
  endOnSignal(fleet, flags.out);
  try {
    const prepared = await prepareDataset(
      {
        inputs,
        outDir: flags.out,
        vocabSize: flags.tokenizer === undefined ? (flags.vocabSize ?? DEFAULT_VOCAB_SIZE) : undefined,
        tokenizerPath: flags.tokenizer,
        format,
        minCharacters: flags.minCharacters,
        unitBytes: flags.unitBytes,
        keep: keepOf(flags.keep),
        allowTruncated: flags.allowTruncated,
        force: flags.force,
        onProgress: (progress) => line.show(describeProgress(progress)),
        onWarning: warnAside,
      },
      fleet?.run,
    );
    line.end();
    for (const text of describeDataset(flags.out, prepared)) say(text);
    say(describeTime(prepared, performance.now() - startMs));
    return 0;
  } finally {
    line.end();
    await fleet?.close();
  }
}

function keepOf(parts: string | undefined): Keepable[] {
  return (parts?.split(',') ?? []).map((name) => {
    const part = KEEPABLE.find((known) => known === name.trim());
    if (part !== undefined) return part;
    throw new LockstepError('CONFIG_INVALID', `--keep ${parts}: expected some of ${KEEPABLE.join(',')}`);
  });
}

/** Worker processes, or null where one process, this one, does. */
async function startFleet(
  inputs: readonly string[],
  flags: PrepareFlags,
  warnAside: (message: string) => void,
): Promise<PrepareFleet | null> {
  const isSmall = sizeOfInputs(inputs) < BYTES_FOR_PROCESSES;
  const canShare = flags.redis !== undefined || findRedisServer() !== null;
  const byDefault = isSmall || !canShare ? 1 : availableParallelism();
  const processes = flags.processes ?? byDefault;
  if (processes === 0 && flags.redis === undefined) {
    throw new LockstepError('CONFIG_INVALID', '--processes 0: without --redis nobody else can do the work');
  }
  if (processes === 1 && flags.redis === undefined) return null;
  return await PrepareFleet.start({ outDir: flags.out, processes, redisUrl: flags.redis, warn: warnAside });
}

/** What is done is on disk under its name, so that a stop needs no goodbye. */
function endOnSignal(fleet: PrepareFleet | null, out: string): void {
  let asked = false;
  const stop = () => {
    if (asked) process.exit(130);
    asked = true;
    warn(`stopped: the same command goes on from what is done, which lies in ${out}`);
    void (fleet?.close() ?? Promise.resolve()).finally(() => process.exit(130));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

/** The time of each phase with its share. */
function describeTime({ phaseMs }: PreparedDataset, totalMs: number): string {
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  const shares = PREPARE_PHASES.map(
    (phase) => `${phase} ${seconds(phaseMs[phase])} (${Math.round((100 * phaseMs[phase]) / totalMs)} %)`,
  );
  return `done in ${seconds(totalMs)}: ${shares.join(', ')}`;
}

export function describeDataset(dir: string, { sha256, manifest }: PreparedDataset): string[] {
  const { report, vocabSize, tokens } = manifest;
  const dropped = Object.entries(report.dropped)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => `${formatCount(count)} ${reason}`);
  const perMillion = (1e6 * report.leftovers) / report.characters;
  return [
    `${dir}: ${formatCount(report.articlesKept)} articles, ${formatCount(tokens)} tokens of a vocabulary of ${formatCount(vocabSize)}`,
    `  read ${formatCount(report.articlesRead)}, dropped ${dropped.length === 0 ? 'none' : dropped.join(', ')}`,
    `  ${formatCount(report.characters)} characters, left-over markup ${perMillion.toFixed(1)} per million`,
    `  data set ${sha256}`,
  ];
}

function describeProgress({ phase, done, total, articles }: PrepareProgress): string {
  const share = total === 0 ? '' : ` ${Math.floor((100 * done) / total)} %`;
  return `${phase}${share}  ${formatCount(articles)} articles`;
}
