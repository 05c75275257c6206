/**
 * `lockstep chaos`: trains with real processes while it kills, freezes and slows them, from a seed, and
 * gives a verdict that a machine can check. The exit code is 0 only when every promise was kept.
 */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { LockstepError } from '../base/index.ts';
import {
  FAULT_KINDS,
  type Fault,
  type FaultKind,
  goodputOf,
  judge,
  planFaults,
  summarizeRecoveries,
  type Throughput,
  tallyLedger,
  type Verdict,
  workforceMs,
} from '../chaos/index.ts';
import { deadlinesFrom, type RunConfig } from '../config/index.ts';
import { COMMIT_LOG_FILE } from '../coordinator/index.ts';
import { type CommittedRecord, readHistory } from '../history/index.ts';
import { ChaosCluster, type ClusterReport } from './chaos-cluster.ts';
import { linesOfVerdict } from './chaos-report.ts';
import { weightsDigest } from './digest.ts';
import { addConfigFlags, atLeastOne, type ConfigFlags, wholeNumber } from './flags.ts';
import { planRun } from './open-run.ts';
import { runCommand, say } from './terminal.ts';
import { exitCodeOf, train } from './train.ts';
import { verifyRun } from './verify-run.ts';

interface ChaosFlags extends ConfigFlags {
  readonly data: string;
  readonly run: string;
  readonly workers: number;
  readonly faults: readonly FaultKind[];
  readonly faultsPerHour: number;
  readonly faultSeed: number;
  readonly throttle: number;
  readonly stallLimit: number;
  readonly expect?: string;
  readonly json?: true;
}

interface Twin {
  readonly digest: string;
  /** Null when only its digest was given. */
  readonly throughput: Throughput | null;
}

/** A run as both see it: with every setting settled. */
interface Contest {
  readonly flags: ChaosFlags;
  readonly config: RunConfig;
  readonly configFile: string;
  readonly runDir: string;
}

interface Disturbed {
  /** What kept the run from its end; null when nothing did. */
  readonly trouble: string | null;
  readonly report: ClusterReport;
}

const INTERRUPTED = 130;

export function addChaosCommand(program: Command): void {
  addConfigFlags(
    program
      .command('chaos')
      .description('train while processes are killed, frozen and slowed; prove that nothing came of it')
      .requiredOption('--data <dir>', 'data set made by `lockstep prepare`')
      .requiredOption('--run <dir>', 'a new folder: `disturbed` and `twin` go there'),
  )
    .option('--workers <n>', 'worker processes', atLeastOne, 3)
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
  const twin = await twinOf(contest);
  if (twin === null) return INTERRUPTED;
  const disturbed = await disturb(contest);
  if (disturbed === null) return INTERRUPTED;
  const verdict = await judgeRun(contest, twin, disturbed);
  if (flags.json === true)
    say(JSON.stringify({ ...verdict, faultSeed: flags.faultSeed, run: contest.runDir }));
  else for (const line of linesOfVerdict(verdict)) say(line);
  return verdict.ok ? 0 : 1;
}

async function prepareContest(flags: ChaosFlags): Promise<Contest> {
  const runDir = join(flags.run, 'disturbed');
  if (existsSync(flags.run)) {
    throw new LockstepError('CONFIG_INVALID', `--run ${flags.run} is there already: name a new folder`);
  }
  if (flags.expect !== undefined && !/^[0-9a-f]{64}$/.test(flags.expect)) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `--expect ${flags.expect}: expected a digest of 64 hex digits, as \`lockstep digest\` prints it`,
    );
  }
  const { config } = await planRun({ ...flags, run: runDir });
  await mkdir(flags.run, { recursive: true });
  const configFile = join(flags.run, 'config.json');
  await writeFile(configFile, `${JSON.stringify(config, null, 2)}\n`);
  return { flags, config, configFile, runDir };
}

/** The same run with one worker and without faults; null when the user stopped it. */
async function twinOf({ flags, configFile }: Contest): Promise<Twin | null> {
  if (flags.expect !== undefined) return { digest: flags.expect, throughput: null };
  const run = join(flags.run, 'twin');
  const outcome = await train({ data: flags.data, run, workers: 1, config: configFile, set: [] });
  if (outcome.kind === 'stopped') return null;
  if (outcome.kind === 'failed') exitCodeOf(outcome);
  const { sha256 } = await weightsDigest(run);
  const committed = await committedRecords(run);
  const times = committed.map(({ time }) => Date.parse(time));
  return {
    digest: sha256,
    throughput: { tokens: tokensAfterFirst(committed), workerMs: times.at(-1)! - times[0]! },
  };
}

/** Trains under fire. Null when the user stopped it. */
async function disturb({ flags, config, configFile, runDir }: Contest): Promise<Disturbed | null> {
  const { heartbeatLimitMs } = config.network;
  const cluster = await ChaosCluster.start({
    dataDir: flags.data,
    runDir,
    configFile,
    steps: config.steps,
    workers: flags.workers,
    throttleMs: flags.throttle,
    shutdownLimitMs: deadlinesFrom(heartbeatLimitMs).shutdownLimitMs,
  });
  let interrupted = false;
  const onSignal = () => {
    interrupted = true;
    cluster.giveUp('interrupted');
  };
  const onExit = () => cluster.abandon();
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  process.on('exit', onExit);
  const stalled = setInterval(() => {
    if (performance.now() - cluster.lastProgressMs < flags.stallLimit * 1000) return;
    cluster.giveUp(`no step was committed for ${flags.stallLimit} s (--stall-limit)`);
  }, 1000);
  const ending = new AbortController();
  try {
    const { faultSeed: seed, faults: kinds, workers, faultsPerHour } = flags;
    const plan = planFaults({ seed, kinds, workers, faultsPerHour, heartbeatLimitMs });
    const striking = strike(cluster, plan, ending.signal);
    const trouble = await cluster.over;
    ending.abort();
    await striking;
    await cluster.close();
    return interrupted ? null : { trouble, report: await cluster.report() };
  } finally {
    ending.abort();
    clearInterval(stalled);
    await cluster.close();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
    process.off('exit', onExit);
  }
}

/** Fires the plan's faults at their times, from the first commit on. */
async function strike(cluster: ChaosCluster, plan: Iterable<Fault>, signal: AbortSignal): Promise<void> {
  await Promise.race([cluster.firstCommit, cluster.over]);
  const startMs = performance.now();
  for (const fault of plan) {
    try {
      await sleep(Math.max(0, startMs + fault.atMs - performance.now()), undefined, { signal });
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    cluster.fire(fault);
  }
}

async function judgeRun(
  { flags, config, runDir }: Contest,
  twin: Twin,
  { trouble, report }: Disturbed,
): Promise<Verdict> {
  const { commits, faults, workforce, refused, workersLost, unexpectedExits } = report;
  let committed: readonly CommittedRecord[] = [];
  let digest: string | null = null;
  let verifyError: string | null = null;
  try {
    await verifyRun(runDir);
    committed = await committedRecords(runDir);
    digest = (await weightsDigest(runDir)).sha256;
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    verifyError = `${error.code}: ${error.message}`;
  }
  const [first, last] = [commits[0], commits.at(-1)];
  const disturbed: Throughput = {
    tokens: tokensAfterFirst(committed),
    workerMs: first && last ? workforceMs(workforce, first.atMs, last.atMs) : 0,
  };
  return judge({
    trouble,
    expectedDigest: twin.digest,
    digest,
    verifyError,
    ledger: tallyLedger(
      committed.map(({ step, slots }) => ({ step, slots: slots.length })),
      config.steps,
      config.step.microBatches,
    ),
    recoveries: summarizeRecoveries(flags.faults, faults, commits),
    unexpectedExits,
    refused,
    workersLost,
    goodput: twin.throughput === null ? null : goodputOf(disturbed, twin.throughput),
  });
}

async function committedRecords(runDir: string): Promise<CommittedRecord[]> {
  const committed: CommittedRecord[] = [];
  for await (const record of readHistory(join(runDir, COMMIT_LOG_FILE))) {
    if (record.kind === 'committed') committed.push(record);
  }
  return committed;
}

/** What was committed between the first commit, when the clock starts, and the last. */
function tokensAfterFirst(committed: readonly CommittedRecord[]): number {
  return committed.slice(1).reduce((total, { tokens }) => total + tokens, 0);
}

function faultKinds(text: string): readonly FaultKind[] {
  const kinds = text.split(',').map((name) => FAULT_KINDS.find((kind) => kind === name));
  if (kinds.some((kind) => kind === undefined)) {
    throw new InvalidArgumentError(`expected kinds of ${FAULT_KINDS.join(', ')}, separated by commas`);
  }
  return [...new Set(kinds as FaultKind[])];
}
