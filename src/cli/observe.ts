/**
 * Watching a run from the process that coordinates it: its telemetry is recorded always, its dashboard is
 * served when asked for. What `train` and `coordinator` have in common.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { LockstepError, type Logger, messageOf } from '../base/index.ts';
import {
  Coordinator,
  type CoordinatorListener,
  type CoordinatorOptions,
  type Outcome,
  queueNameOf,
  type RunFolder,
} from '../coordinator/index.ts';
import { DashboardServer, isLoopback, RunRecorder } from '../dashboard/index.ts';
import { createLogger } from '../logging/index.ts';
import { QueueInspector } from '../queue/index.ts';
import { atLeastOne, port } from './flags.ts';
import { closeRun } from './open-run.ts';
import { playgroundStarter } from './playground.ts';
import { ProgressDisplay, teeLogger } from './progress.ts';
import { bothLoggers, isTerminal, lineLogger, say } from './terminal.ts';
import { Validation } from './validation.ts';
import { lockstepVersion } from './version.ts';

/** Whoever holds it may look and act; not the cluster's token, which would let a browser's owner join. */
export const DASHBOARD_TOKEN_VARIABLE = 'LOCKSTEP_DASHBOARD_TOKEN';

const LOOPBACK = '127.0.0.1';
/** Enough for a curve, few enough not to be felt. */
const VALIDATION_SAMPLES = 256;

export interface DashboardFlags {
  readonly dashboardPort?: number;
  readonly dashboardHost?: string;
  readonly dashboardQueueWrites?: boolean;
  readonly validationSamples?: number;
}

export function addDashboardFlags(command: Command): Command {
  return command
    .option('--dashboard-port <n>', 'serve the dashboard on this port; 0 takes a free one', port)
    .option(
      '--dashboard-host <address>',
      `interface that the dashboard listens on; beyond loopback it asks for ${DASHBOARD_TOKEN_VARIABLE}`,
      LOOPBACK,
    )
    .addOption(new Option('--dashboard-queue-writes', 'let the queue page retry and remove jobs'))
    .option(
      '--validation-samples <n>',
      'samples held out (data.validationShare) that each checkpoint is evaluated on, beside the training',
      atLeastOne,
      VALIDATION_SAMPLES,
    );
}

export interface ObservedRun {
  readonly run: RunFolder;
  readonly dataDir: string;
  readonly redisUrl: string;
  readonly flags: DashboardFlags;
}

export class RunObserver {
  /** What the coordinator logs to. */
  readonly logger: Logger;
  readonly #listener: CoordinatorListener;
  readonly progress: ProgressDisplay;
  readonly #observed: ObservedRun;
  readonly #recorder: RunRecorder;
  #server: DashboardServer | null = null;
  #queue: QueueInspector | null = null;
  /** Null for a run that holds nothing out. */
  readonly #validation: Validation | null;

  /** Throws DISK_FULL when the run's folder takes no records; the run is let go of then. */
  static async open(observed: ObservedRun): Promise<RunObserver> {
    try {
      return await RunObserver.#open(observed);
    } catch (error) {
      await closeRun(observed.run);
      throw error;
    }
  }

  static async #open(observed: ObservedRun): Promise<RunObserver> {
    const { run, dataDir } = observed;
    const file = createLogger({ file: join(run.dir, 'logs', 'coordinator.log'), level: 'info' });
    const lines = (isTerminal ? file : bothLoggers(file, lineLogger())).child({ run: run.id });
    const progress = new ProgressDisplay(run.config.steps, lines);
    // The recorder hears of its own trouble too, so that the page shows it; it begins before there is an observer.
    let logger = progress.logger();
    const onTrouble = (reason: string) => logger.warn('telemetryTrouble', { reason });
    const recorder = await RunRecorder.open({ run, dataDir, onTrouble });
    const observer = new RunObserver(observed, progress, recorder);
    logger = observer.logger;
    return observer;
  }

  private constructor(observed: ObservedRun, progress: ProgressDisplay, recorder: RunRecorder) {
    this.#observed = observed;
    this.#recorder = recorder;
    this.progress = progress;
    this.logger = teeLogger(progress.logger(), (level, event, fields) => {
      recorder.hear(level, event, fields);
      if (event === 'checkpointStored') this.#validation?.onCheckpoint(Number(fields.step));
    }).child({ role: 'coordinator' });
    const { run, dataDir, flags } = observed;
    const { validationSamples = VALIDATION_SAMPLES } = flags;
    this.#validation =
      run.config.data.validationShare === 0
        ? null
        : new Validation(playgroundStarter(run.dir)(dataDir), validationSamples, this.logger);
    this.#listener = {
      onCommitted: (record, state, repeated) => {
        progress.onCommitted(record, state, repeated);
        recorder.onCommitted(record, state, repeated);
      },
    };
  }

  /** Starts the coordinator of the run; lets go of the run when it cannot. */
  async start(options: Omit<CoordinatorOptions, 'logger' | 'listener'>): Promise<Coordinator> {
    try {
      const { logger } = this;
      return await Coordinator.start({ ...options, logger, listener: this.#listener });
    } catch (error) {
      await this.close();
      await closeRun(this.#observed.run);
      throw error;
    }
  }

  /**
   * Follows the coordinator that was started, and serves its dashboard if asked to. Throws ADDRESS_IN_USE and
   * CONFIG_INVALID.
   */
  async follow(coordinator: Coordinator): Promise<void> {
    this.#recorder.watch(coordinator);
    const { flags, run, redisUrl, dataDir } = this.#observed;
    const { dashboardPort, dashboardHost: host = LOOPBACK } = flags;
    if (dashboardPort === undefined) return;
    const recorder = this.#recorder;
    const token = dashboardTokenFor(host);
    this.#queue = new QueueInspector(redisUrl, queueNameOf(run.id));
    this.#server = await DashboardServer.start({
      ...{ host, port: dashboardPort, token: token?.value ?? null, version: lockstepVersion() },
      source: { dir: run.dir, name: recorder.name, live: true, view: recorder.view, refresh: async () => {} },
      actions: {
        drain: (worker) => coordinator.requestDrain(incarnationOf(coordinator, worker)),
        evict: (worker) => coordinator.evict(incarnationOf(coordinator, worker)),
      },
      queue: this.#queue,
      isBoardWritable: flags.dashboardQueueWrites === true,
      startPlayground: playgroundStarter(run.dir),
      dataDir,
      onTrouble: (reason) => this.logger.warn('dashboardTrouble', { reason }),
    });
    this.progress.logger().info('dashboardServed', { url: this.#server.url });
    say(announcement(this.#server.url, token));
  }

  /** Waits for the newest checkpoint's validation, so that a run's last figure is its own. */
  async ended(outcome: Outcome): Promise<void> {
    if (outcome.kind !== 'failed') await this.#validation?.settled();
    this.#recorder.end(outcome);
  }

  /** The run ends by an error that is not the coordinator's own verdict. */
  failed(error: unknown, step: number): void {
    const code = error instanceof LockstepError ? error.code : 'WORKER_LOST';
    this.#recorder.end({ kind: 'failed', step, failure: { code, message: messageOf(error) } });
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#validation?.close();
    await this.#server?.close();
    await this.#queue?.close();
    await this.#recorder.close();
  }
}

/** What must be shown to the dashboard on this interface: asked for in the environment, made up beyond loopback. */
export function dashboardTokenFor(host: string): { value: string; isGenerated: boolean } | null {
  const given = process.env[DASHBOARD_TOKEN_VARIABLE] ?? '';
  if (given !== '' && given.length < 16) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `${DASHBOARD_TOKEN_VARIABLE} is shorter than 16 characters: take one as from \`openssl rand -hex 32\``,
    );
  }
  if (given !== '') return { value: given, isGenerated: false };
  return isLoopback(host) ? null : { value: randomBytes(24).toString('base64url'), isGenerated: true };
}

/** The line that tells a person where the dashboard is; the only place where a made-up token is shown. */
export function announcement(url: string, token: { value: string; isGenerated: boolean } | null): string {
  const told = token?.isGenerated === true ? `, token ${token.value}` : '';
  return `dashboard: ${url}${told}`;
}

function incarnationOf(coordinator: Coordinator, name: string): string {
  const found = [...coordinator.state.workers.values()].find(({ worker }) => worker === name);
  if (found === undefined) {
    throw new LockstepError('CONFIG_INVALID', `no worker named ${name} takes part in the run`);
  }
  return found.incarnation;
}
