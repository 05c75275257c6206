/**
 * `npm run bench`: Lockstep beside PyTorch and Hugging Face's tokenizers on this machine, in one run, the two taking turns. Prints
 * tables and keeps all figures as JSON. A figure is measured or not printed; a peer that cannot be had
 * is one line. No target is judged here.
 */
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { LockstepError, messageOf } from '../base/index.ts';
import type { PresetName } from '../config/index.ts';
import { type AllReduceFigures, type AllReduceOptions, compareAllReduce } from './all-reduce.ts';
import { type CheckpointFigures, compareCheckpoints } from './checkpoints.ts';
import { type GenerationFigures, measureGeneration, reportGeneration } from './generation.ts';
import { describeLoad, describeMachine, type MachineLoad, measureLoad } from './machine.ts';
import { measureCopy } from './memory-copy.ts';
import {
  reportAllReduce,
  reportCheckpoints,
  reportFaultTolerance,
  reportMemory,
  reportOverhead,
  reportPhases,
  reportThreadsGain,
  reportTokenizing,
  reportTraining,
} from './report.ts';
import { reportScaling } from './scaling.ts';
import type { Summary } from './statistics.ts';
import { measureStream } from './tcp-stream.ts';
import { compareTokenizing, type TokenizingFigures } from './tokenizing.ts';
import { ensureTorch, type TorchEnvironment } from './torch-environment.ts';
import { compareTraining, type TrainingFigures } from './training.ts';
import { measureThreadsGain, measureUpdate, type ThreadsGain } from './update-cost.ts';
import { createWorkload, type WorkloadOptions } from './workload.ts';

const RESULTS = fileURLToPath(new URL('../../bench/results/', import.meta.url));
/** A preset's own sizes, alone and with one worker to each of two cores. */
const WHOLE = {
  pairs: false,
  microBatches: null,
  microBatchSize: null,
  sequenceLength: null,
  workerCounts: [1, 2],
} as const;
/** As many pairs to a micro-batch as a fine-tuning has. */
const UNEQUAL = {
  ...WHOLE,
  preset: 'small',
  pairs: true,
  vocabSize: 8000,
  microBatches: 4,
  microBatchSize: 16,
  workerCounts: [1],
} as const;
const REDUCED_BYTES = [4096, 400e3, 4e6, 40e6];
const CHECKPOINT_ROUNDS = 5;
const STREAM_BYTES = 2 ** 28;
const STREAM_ROUNDS = 5;
const TOKENIZING_ROUNDS = 7;
const GENERATION_ROUNDS = 15;

const PARTS = ['training', 'all-reduce', 'checkpoints', 'tokenizing', 'generation'] as const;
type Part = (typeof PARTS)[number];

interface Plan {
  readonly workloads: readonly WorkloadOptions[];
  readonly allReduce: readonly AllReduceOptions[];
  readonly checkpoints: readonly PresetName[];
}

/** About fifteen minutes on two free cores; of `base` the shapes, with few and short micro-batches. */
const FULL: Plan = {
  workloads: [
    { ...WHOLE, preset: 'tiny', vocabSize: 2000, warmupSteps: 4, measuredSteps: 12, rounds: 3 },
    { ...WHOLE, preset: 'small', vocabSize: 8000, warmupSteps: 1, measuredSteps: 3, rounds: 2 },
    { ...UNEQUAL, warmupSteps: 1, measuredSteps: 3, rounds: 2 },
    {
      ...{
        preset: 'base',
        pairs: false,
        vocabSize: 50_265,
        microBatches: 2,
        microBatchSize: 4,
        sequenceLength: 128,
      },
      ...{ warmupSteps: 1, measuredSteps: 2, rounds: 2, workerCounts: [1] },
    },
  ],
  allReduce: [
    { numRanks: 2, sizes: REDUCED_BYTES, rounds: 5, iterationsPerRound: 20, warmup: 10 },
    { numRanks: 4, sizes: REDUCED_BYTES, rounds: 5, iterationsPerRound: 10, warmup: 5 },
  ],
  checkpoints: ['small', 'base'],
};

/** About three minutes on two free cores; a quarter of the micro-batches for `small`. */
const QUICK: Plan = {
  workloads: [
    { ...WHOLE, preset: 'tiny', vocabSize: 2000, warmupSteps: 2, measuredSteps: 5, rounds: 2 },
    {
      ...WHOLE,
      preset: 'small',
      vocabSize: 8000,
      microBatches: 4,
      warmupSteps: 1,
      measuredSteps: 2,
      rounds: 2,
    },
  ],
  allReduce: [
    { numRanks: 2, sizes: REDUCED_BYTES, rounds: 3, iterationsPerRound: 10, warmup: 10 },
    { numRanks: 4, sizes: REDUCED_BYTES, rounds: 3, iterationsPerRound: 10, warmup: 5 },
  ],
  checkpoints: ['small'],
};

interface Findings {
  readonly startedAt: string;
  readonly machine: string;
  readonly quick: boolean;
  readonly torch: TorchEnvironment;
  readonly loads: Record<string, MachineLoad | null>;
  readonly training: TrainingFigures[];
  readonly allReduce: AllReduceFigures[];
  readonly checkpoints: CheckpointFigures[];
  /** GB/s. */
  rawStream: Summary | null;
  memoryCopy: Summary | null;
  updateNsPerParameter: number | null;
  threadsGain: ThreadsGain | null;
  tokenizing: TokenizingFigures | null;
  generation: GenerationFigures | null;
}

const say = (line: string) => process.stdout.write(`${line}\n`);
const note = (line: string) => process.stderr.write(`bench: ${line}\n`);

const program = new Command('bench')
  .description("measure Lockstep beside PyTorch and Hugging Face's tokenizers on this machine")
  .option('--quick', 'about three minutes instead of fifteen, without base')
  .option('--scaling <file>', 'instead of measuring: what kept figures say of 1 to 1024 workers')
  .addOption(new Option('--only <parts...>', 'some of the parts').choices(PARTS))
  .option('--json <file>', 'where the figures are kept (default: bench/results/DATE.json)')
  .action(async (flags: { quick?: boolean; scaling?: string; only?: Part[]; json?: string }) => {
    try {
      if (flags.scaling !== undefined) for (const line of await reportScaling(flags.scaling)) say(line);
      else await bench(flags.quick === true, flags.only ?? PARTS, flags.json ?? null);
    } catch (error) {
      const code = error instanceof LockstepError ? `${error.code}: ` : '';
      process.stderr.write(`bench: ${code}${messageOf(error)}\n`);
      process.exitCode = 1;
    }
  });
await program.parseAsync();

async function bench(quick: boolean, parts: readonly Part[], jsonFile: string | null): Promise<void> {
  const plan = quick ? QUICK : FULL;
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'));
  const onSignal = () => {
    // All that was started ends with this process; only the folder would stay.
    rmSync(folder, { recursive: true, force: true });
    process.exit(130);
  };
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    const torch = await ensureTorch(note);
    const findings: Findings = {
      startedAt: new Date().toISOString(),
      machine: describeMachine(),
      quick,
      torch,
      loads: {},
      training: [],
      allReduce: [],
      checkpoints: [],
      rawStream: null,
      memoryCopy: null,
      updateNsPerParameter: null,
      threadsGain: null,
      tokenizing: null,
      generation: null,
    };
    say(`Lockstep benchmark${quick ? ' (quick)' : ''}, ${findings.startedAt}, ${findings.machine}`);
    say(torch.available ? `peer: torch ${torch.version}` : `skipped: PyTorch: ${torch.reason}`);
    if (parts.includes('training')) await benchTraining(plan, findings, folder);
    if (parts.includes('all-reduce')) await benchAllReduce(plan, findings, folder);
    if (parts.includes('checkpoints')) await benchCheckpoints(plan, findings, folder);
    if (parts.includes('tokenizing')) await benchTokenizing(findings);
    if (parts.includes('generation')) await benchGeneration(findings);
    await keep(findings, jsonFile);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    await rm(folder, { recursive: true, force: true });
  }
}

async function benchTraining(plan: Plan, findings: Findings, folder: string): Promise<void> {
  const { torch, training } = findings;
  await sayLoad('training', findings);
  for (const options of plan.workloads) {
    const workload = await createWorkload(options, folder);
    say(workload.description);
    for (const workers of options.workerCounts) {
      training.push(await compareTraining(workload, workers, { torch, folder, note }));
    }
  }
  const reports = [reportTraining, reportPhases, reportOverhead, reportFaultTolerance, reportMemory];
  const tables = reports.map((report) => report(training));
  for (const lines of tables) for (const line of ['', ...lines]) say(line);
}

async function benchAllReduce(plan: Plan, findings: Findings, folder: string): Promise<void> {
  const { torch, allReduce } = findings;
  say('');
  await sayLoad('allReduce', findings);
  for (const options of plan.allReduce) {
    allReduce.push(...(await compareAllReduce(options, { torch, folder, note })));
  }
  findings.rawStream = await measureStream(STREAM_BYTES, STREAM_ROUNDS);
  findings.memoryCopy = measureCopy();
  findings.updateNsPerParameter = measureUpdate();
  findings.threadsGain = await measureThreadsGain();
  const limits = { stream: findings.rawStream, copy: findings.memoryCopy };
  for (const line of reportAllReduce(allReduce, limits, availableParallelism())) say(line);
  for (const line of reportThreadsGain(findings.threadsGain)) say(line);
}

async function benchCheckpoints(plan: Plan, findings: Findings, folder: string): Promise<void> {
  const { torch, checkpoints } = findings;
  say('');
  await sayLoad('checkpoints', findings);
  for (const preset of plan.checkpoints) {
    checkpoints.push(await compareCheckpoints(preset, CHECKPOINT_ROUNDS, { torch, folder, note }));
  }
  for (const line of reportCheckpoints(checkpoints)) say(line);
}

async function benchTokenizing(findings: Findings): Promise<void> {
  say('');
  await sayLoad('tokenizing', findings);
  findings.tokenizing = await compareTokenizing(TOKENIZING_ROUNDS, note);
  for (const line of reportTokenizing(findings.tokenizing)) say(line);
}

async function benchGeneration(findings: Findings): Promise<void> {
  say('');
  await sayLoad('generation', findings);
  findings.generation = await measureGeneration(GENERATION_ROUNDS);
  for (const line of reportGeneration(findings.generation)) say(line);
}

async function sayLoad(part: string, findings: Findings): Promise<void> {
  const load = await measureLoad();
  findings.loads[part] = load;
  say(describeLoad(load));
}

async function keep(findings: Findings, jsonFile: string | null): Promise<void> {
  const name = `${findings.startedAt.replace(/[:.]/g, '-')}.json`;
  const file = jsonFile === null ? join(RESULTS, name) : resolve(jsonFile);
  try {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, `${JSON.stringify(findings, null, 2)}\n`);
  } catch (error) {
    throw new LockstepError('DISK_FULL', `${file}: the figures cannot be kept: ${messageOf(error)}`, {
      cause: error,
    });
  }
  say(`\nkept in ${file}`);
}
