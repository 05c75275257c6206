/**
 * `lockstep quickstart`: the main job in a minute. Prepares the shipped corpus, trains a tiny ELMER with
 * two workers, shows what it writes, trains it again with one worker and compares the weights.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { MANIFEST_FILE, openDataset, prepareDataset } from '../data/index.ts';
import { weightsDigest } from './digest.ts';
import { atLeastOne } from './flags.ts';
import { describeDataset } from './prepare.ts';
import { formatCount, runCommand, say, warn } from './terminal.ts';
import { exitCodeOf, train } from './train.ts';

const CORPUS = fileURLToPath(new URL('../../corpus/encyclopedia.xml', import.meta.url));
const VOCAB_SIZE = 2000;
const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const execFileAsync = promisify(execFile);

interface QuickstartFlags {
  readonly workers: number;
  readonly steps: number;
  readonly engine: string;
  readonly dir: string;
}

export function addQuickstartCommand(program: Command): void {
  program
    .command('quickstart')
    .description('prepare the shipped corpus, train a tiny model with two workers, compare with one')
    .option('--workers <n>', 'workers of the first run', atLeastOne, 2)
    .option('--steps <n>', 'steps of each run', atLeastOne, 60)
    .option('--engine <name>', 'compute engine', 'auto')
    .option('--dir <dir>', 'where data set and runs go', '.')
    .action((flags: QuickstartFlags) => runCommand(() => quickstart(flags)));
}

async function quickstart(flags: QuickstartFlags): Promise<number> {
  const { workers } = flags;
  const dataDir = join(flags.dir, 'data', 'quickstart');
  const runsDir = join(flags.dir, 'runs');
  heading(1, 'the data set');
  await prepareOnce(dataDir);

  await mkdir(runsDir, { recursive: true });
  const folder = await mkdtemp(join(runsDir, 'quickstart-'));
  heading(2, `training with ${workers === 1 ? 'one worker' : `${workers} workers`}`);
  const first = join(folder, `${workers}-workers`);
  const stopped = await trainOnce(flags, dataDir, first, workers);
  if (stopped) return 0;

  heading(3, 'what the checkpoint writes: one pass, all tokens at once');
  say(`  (${flags.steps} steps of a tiny model teach it which tokens are frequent, and little else)`);
  await showSamples(first, dataDir);

  heading(4, 'the same run again, with one worker');
  const second = join(folder, '1-worker');
  if (await trainOnce(flags, dataDir, second, 1)) return 0;

  heading(5, 'the weights');
  const digests = await Promise.all([weightsDigest(first), weightsDigest(second)]);
  const [together, alone] = digests;
  say(`  ${workers} workers  ${together.sha256}  step ${together.step}`);
  say(`  1 worker   ${alone.sha256}  step ${alone.step}`);
  if (together.sha256 !== alone.sha256) {
    throw new LockstepError('DIVERGED', `the weights in ${first} and ${second} differ: please report this`);
  }
  say('  the same to the bit');
  say(`\nNext: npx lockstep train --data ${dataDir} --run runs/mine --workers 2 --steps 600`);
  return 0;
}

function heading(number: number, text: string): void {
  say(`\n[${number}/5] ${text}`);
}

/** Keeps a data set that is there and whole. */
async function prepareOnce(dataDir: string): Promise<void> {
  if (existsSync(join(dataDir, MANIFEST_FILE))) {
    try {
      const dataset = await openDataset(dataDir);
      say(`  ${dataDir} is there: ${formatCount(dataset.manifest.tokens)} tokens`);
      dataset.close();
      return;
    } catch (error) {
      if (!(error instanceof LockstepError)) throw error;
      warn(`${error.message}; it is made anew`);
    }
  }
  const prepared = await prepareDataset({
    inputs: [CORPUS],
    outDir: dataDir,
    vocabSize: VOCAB_SIZE,
    force: true,
  });
  for (const line of describeDataset(dataDir, prepared)) say(`  ${line}`);
}

/** True when the user stopped it. */
async function trainOnce(
  flags: QuickstartFlags,
  data: string,
  run: string,
  workers: number,
): Promise<boolean> {
  const outcome = await train({
    data,
    run,
    workers,
    preset: 'tiny',
    steps: flags.steps,
    engine: flags.engine,
    set: [],
  });
  exitCodeOf(outcome);
  return outcome.kind === 'stopped';
}

/** In a process of its own: engines write notices of theirs to standard error as they load. */
async function showSamples(run: string, data: string): Promise<void> {
  const { stdout } = await execFileAsync(process.execPath, [MAIN, 'sample', run, '--data', data]);
  process.stdout.write(stdout);
}
