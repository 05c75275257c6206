/**
 * `lockstep chaos`: trains with real processes while it kills, freezes, slows and cuts them off, from a
 * seed, and gives a verdict that a machine can check. The exit code is 0 only when every promise was kept.
 */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { LockstepError } from '../base/index.ts';
import {
  FAULT_KINDS,
  type FaultKind,
  goodputOf,
  judge,
  planFaults,
  summarizeJoins,
  summarizeRecoveries,
  tallyLedger,
  type Verdict,
} from '../chaos/index.ts';
import { deadlinesFrom, type RunConfig } from '../config/index.ts';
import { contributionsOf, type RunPlan, type Trained, throughputOf, trainThrough } from './chaos/contest.ts';
import { linesOfVerdict } from './chaos/report.ts';
import { addConfigFlags, atLeastOne, type ConfigFlags, moreThanZero, wholeNumber } from './flags.ts';
import { planRun } from './open-run.ts';
import { runCommand, say } from './terminal.ts';

interface ChaosFlags extends ConfigFlags {
  readonly data: string;
  readonly run: string;
  readonly workers: number;
  readonly minutes?: number;
  readonly faults: readonly FaultKind[];
  readonly faultsPerHour: number;
  readonly faultSeed: number;
  readonly throttle: number;
  readonly stallLimit: number;
  readonly expect?: string;
  readonly json?: true;
}

/** A run as both see it: with every setting settled. */
interface Contest {
  readonly flags: ChaosFlags;
  readonly config: RunConfig;
  readonly runDir: string;
}

const INTERRUPTED = 130;
/** Of a run that ends by the clock: more than it can take. */
const STEPS_MAX = 1_000_000;

export function addChaosCommand(program: Command): void {
  addConfigFlags(
    program
      .command('chaos')
      .description(
        'train while processes are killed, frozen, slowed and cut off; prove that nothing came of it',
      )
      .requiredOption('--data <dir>', 'data set made by `lockstep prepare`')
      .requiredOption('--run <dir>', 'a new folder: `disturbed`, `twin` and `verdict.json` go there'),
  )
    .option('--workers <n>', 'worker processes', atLeastOne, 3)
    .option('--minutes <n>', 'fire for so long, then end the run, instead of after --steps', moreThanZero)
    .option('--faults <kinds>', `comma-separated, of ${FAULT_KINDS.join(', ')}`, faultKinds, FAULT_KINDS)
    .option('--faults-per-hour <n>', 'how many faults strike, on average', atLeastOne, 240)
    .option('--fault-seed <n>', 'seed of kinds, times and victims', wholeNumber, 1)
    .option('--throttle <ms>', 'slow every worker down by so much per micro-batch', wholeNumber, 0)
    .option('--stall-limit <s>', 'give up after so long without a commit', atLeastOne, 180)
    .option('--expect <digest>', 'digest of the undisturbed run, instead of training the twin')
    .option('--json', 'print the verdict as one line of JSON')
    .action((flags: ChaosFlags) => runCommand(() => chaos(flags)));
}

async function chaos(flags: ChaosFlags): Promise<number> {
  const contest = await prepareContest(flags);
  const disturbed = await disturb(contest);
  if (disturbed === null) return INTERRUPTED;
  const twin = flags.expect === undefined ? await trainTwin(contest, disturbed) : null;
  if (twin === null && flags.expect === undefined) return INTERRUPTED;
  const verdict = judgeRun(contest, disturbed, twin);
  const { workers, minutes, faultSeed, faultsPerHour, throttle, run } = flags;
  const asked = { workers, minutes: minutes ?? null, faultSeed, faultsPerHour, throttleMs: throttle, run };
  await writeFile(join(run, 'verdict.json'), `${JSON.stringify({ ...verdict, asked }, null, 2)}\n`);
  if (flags.json === true) say(JSON.stringify({ ...verdict, asked }));
  else for (const line of linesOfVerdict(verdict)) say(line);
  return verdict.ok ? 0 : 1;
}

async function prepareContest(flags: ChaosFlags): Promise<Contest> {
  const runDir = join(flags.run, 'disturbed');
  if (existsSync(flags.run)) {
    throw new LockstepError('CONFIG_INVALID', `--run ${flags.run} is there already: name a new folder`);
  }
  refuseContradictions(flags);
  const { config: planned } = await planRun({ ...flags, run: runDir });
  const { optimizer, steps } = planned;
  // A run that ends by the clock keeps the schedule of its configuration.
  const config: RunConfig = {
    ...planned,
    optimizer: { ...optimizer, decaySteps: optimizer.decaySteps ?? steps },
    steps: flags.minutes === undefined ? steps : STEPS_MAX,
  };
  await mkdir(flags.run, { recursive: true });
  return { flags, config, runDir };
}

function refuseContradictions({ expect, minutes, steps, faults, workers }: ChaosFlags): void {
  const refuse = (reason: string) => {
    throw new LockstepError('CONFIG_INVALID', reason);
  };
  if (expect !== undefined && !/^[0-9a-f]{64}$/.test(expect)) {
    refuse(`--expect ${expect}: expected a digest of 64 hex digits, as \`lockstep digest\` prints it`);
  }
  if (expect !== undefined && minutes !== undefined) {
    refuse(`--expect with --minutes ${minutes}: nobody knows yet after how many steps; use --steps`);
  }
  if (minutes !== undefined && steps !== undefined) {
    refuse(`--minutes ${minutes} with --steps ${steps}: one of them ends the run; leave the other out`);
  }
  if (workers < 2 && faults.includes('cut-worker-peer')) {
    refuse(`--workers ${workers}: cut-worker-peer needs 2 or more; name other kinds with --faults`);
  }
}

/** Trains under fire. Null when the user stopped it. */
async function disturb(contest: Contest): Promise<Trained | null> {
  const { flags, config, runDir } = contest;
  const { faultSeed: seed, faults: kinds, workers, faultsPerHour } = flags;
  const { heartbeatLimitMs } = config.network;
  return trainThrough({
    ...(await commonPlan(contest, 'disturbed.json', config)),
    runDir,
    faults: planFaults({ seed, kinds, workers, faultsPerHour, heartbeatLimitMs }),
    fireMs: flags.minutes === undefined ? null : flags.minutes * 60_000,
  });
}

/** The same run, as many steps long, with nothing to disturb it. Null when the user stopped it. */
async function trainTwin(contest: Contest, disturbed: Trained): Promise<Trained | null> {
  const { flags, config } = contest;
  const steps = stepsOf(contest, disturbed);
  const twin = await trainThrough({
    ...(await commonPlan(contest, 'twin.json', { ...config, steps })),
    runDir: join(flags.run, 'twin'),
    faults: [],
    fireMs: null,
  });
  const trouble = twin?.trouble ?? twin?.verifyError ?? null;
  if (trouble !== null) {
    throw new LockstepError('WORKER_LOST', `the twin, which nothing disturbed, did not end well: ${trouble}`);
  }
  return twin;
}

async function commonPlan(
  { flags }: Contest,
  fileName: string,
  config: RunConfig,
): Promise<Omit<RunPlan, 'runDir' | 'faults' | 'fireMs'>> {
  const configFile = join(flags.run, fileName);
  await writeFile(configFile, `${JSON.stringify(config, null, 2)}\n`);
  return {
    dataDir: flags.data,
    configFile,
    workers: flags.workers,
    steps: config.steps,
    throttleMs: flags.throttle,
    shutdownLimitMs: deadlinesFrom(config.network.heartbeatLimitMs).shutdownLimitMs,
    stallLimitMs: flags.stallLimit * 1000,
  };
}

/** How long the run was to be: by its configuration, or as long as it got by the clock. */
function stepsOf({ flags, config }: Contest, disturbed: Trained): number {
  if (flags.minutes === undefined) return config.steps;
  return Math.max(1, ...disturbed.committed.map(({ step }) => step));
}

function judgeRun(contest: Contest, disturbed: Trained, twin: Trained | null): Verdict {
  const { flags, config } = contest;
  const { sighting, committed } = disturbed;
  const { commits, faults, joins } = sighting;
  const contributions = contributionsOf(disturbed);
  return judge({
    trouble: disturbed.trouble,
    expectedDigest: twin?.digest?.sha256 ?? flags.expect ?? 'unknown',
    digest: disturbed.digest?.sha256 ?? null,
    verifyError: disturbed.verifyError,
    ledger: tallyLedger(
      committed.map(({ step, slots }) => ({ step, slots: slots.length })),
      stepsOf(contest, disturbed),
      config.step.microBatches,
    ),
    recoveries: summarizeRecoveries(flags.faults, faults, commits),
    joined: summarizeJoins(
      joins.filter(({ isProcess }) => isProcess),
      contributions,
    ),
    cameBack: summarizeJoins(
      joins.filter(({ isProcess }) => !isProcess),
      contributions,
    ),
    unexpectedExits: sighting.unexpectedExits,
    refused: sighting.refused,
    workersLost: sighting.workersLost,
    goodput: twin === null ? null : goodputOf(throughputOf(disturbed), throughputOf(twin)),
  });
}

function faultKinds(text: string): readonly FaultKind[] {
  const kinds = text.split(',').map((name) => FAULT_KINDS.find((kind) => kind === name));
  if (kinds.some((kind) => kind === undefined)) {
    throw new InvalidArgumentError(`expected kinds of ${FAULT_KINDS.join(', ')}, separated by commas`);
  }
  return [...new Set(kinds as FaultKind[])];
}
