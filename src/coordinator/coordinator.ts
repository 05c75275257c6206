/**
 * The coordinator's driver: sockets, Redis, files and clocks around the machine of machine.ts.
 *
 * One inbox, one loop, one event at a time; the effects of an event are carried out in order before
 * the next one is taken. Only appending to the commit log holds the loop up, because nobody may
 * hear of a commit that is not on disk. This file decides nothing.
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { assert, LockstepError, type Logger, messageOf, SteadyClock, unreachable } from '../base/index.ts';
import {
  type CheckpointReader,
  type CheckpointWriter,
  checkpointName,
  openCheckpoint,
} from '../checkpoint/index.ts';
import { type Deadlines, deadlinesFrom } from '../config/index.ts';
import type { CommitLog } from '../history/index.ts';
import { ControlServer, Refusals } from '../net/index.ts';
import {
  deriveKey,
  type Envelope,
  PROTOCOL_VERSION,
  type WorkerMessage,
  workerMessageSchema,
} from '../protocol/index.ts';
import { JobProducer } from '../queue/index.ts';
import type { DataBlocks } from './data-routes.ts';
import { layoutKeyOf, layoutOfKey } from './layout-key.ts';
import { initialState, transition } from './machine.ts';
import { now, type RunFolder } from './run-folder.ts';
import type {
  CommittedStep,
  CoordinatorEffect,
  CoordinatorEvent,
  CoordinatorState,
  Outcome,
  RecordedStep,
} from './state.ts';
import { StateServer } from './state-server.ts';

/** When to look again for the worker whose connection closed. */
const PROBE_DELAYS_MS = [20, 100];

export interface CoordinatorOptions {
  readonly run: RunFolder;
  /** The run's data set, for workers without its files. */
  readonly data: DataBlocks;
  /** Shared secret of the cluster; whoever holds it may take part. */
  readonly token: string;
  /** Where this process reaches Redis, and where workers do. */
  readonly redisUrl: string;
  readonly advertisedRedisUrl: string;
  /** Interface to listen on, and the address workers are told. */
  readonly host: string;
  readonly advertisedHost: string;
  /** 0 takes a free port. */
  readonly controlPort: number;
  readonly httpPort: number;
  readonly minWorkers: number;
  readonly logger: Logger;
  readonly listener?: CoordinatorListener;
  readonly version: string;
}

/** What a progress display needs to know. */
export interface CoordinatorListener {
  onCommitted(record: CommittedStep, state: CoordinatorState, repeated: boolean): void;
}

export class Coordinator {
  /** zeromq endpoint that workers connect to. */
  readonly endpoint: string;
  /** Settles once: completed, stopped, or failed with the reason. */
  readonly outcome: Promise<Outcome>;

  readonly #options: CoordinatorOptions;
  readonly #log: CommitLog;
  readonly #control: ControlServer<WorkerMessage>;
  readonly #server: StateServer;
  readonly #producer: JobProducer;
  readonly #incarnation = randomUUID();
  readonly #settle: (outcome: Outcome) => void;
  readonly #reject: (error: unknown) => void;
  #state: CoordinatorState;
  #inbox: CoordinatorEvent[] = [];
  #running = false;
  #timer: NodeJS.Timeout | null = null;
  readonly #clock: SteadyClock;
  #enqueuing: Promise<void> = Promise.resolve();
  /** The checkpoint being written, and what is known of its step. */
  #writing: {
    readonly writer: CheckpointWriter;
    readonly attempt: number;
    readonly progress: Progress;
  } | null = null;
  #storing: Promise<void> = Promise.resolve();
  /** The newest stored checkpoint, served to joiners; null before the first. */
  #reader: CheckpointReader | null;
  #committed: Progress;
  #stored: Progress;
  #closed = false;

  static async start(options: CoordinatorOptions): Promise<Coordinator> {
    const { run } = options;
    const key = deriveKey(options.token, 'frame');
    const deadlines = deadlinesFrom(run.config.network.heartbeatLimitMs);
    // The sockets speak before the object stands; what arrives until then is nobody's yet.
    let coordinator: Coordinator | null = null;
    const refusals = new Refusals(options.logger);
    const server = await StateServer.listen(
      options.host,
      options.httpPort,
      run.id,
      deriveKey(options.token, 'http'),
      {
        data: options.data,
        writerOf: (step, attempt) => coordinator?.writerOf(step, attempt) ?? null,
        readerOf: (step) => coordinator?.readerOf(step) ?? null,
        onWriteFailed: (step, error) => coordinator?.post(checkpointFailure(step, error)),
      },
    );
    let control: ControlServer<WorkerMessage> | null = null;
    try {
      control = await ControlServer.bind(
        `tcp://${options.host}:${options.controlPort === 0 ? '*' : options.controlPort}`,
        key,
        workerMessageSchema,
        deadlines.heartbeatLimitMs,
        {
          onMessage: (message) => coordinator?.post({ type: 'messageArrived', message }),
          onRefused: (reason) => refusals.add(reason),
          onUnreachable: (incarnation) =>
            coordinator?.post({ type: 'connectionLost', incarnation, reason: 'its connection closed' }),
          onDisconnect: () => coordinator?.findLost(),
        },
      );
      const producer = await JobProducer.open(options.redisUrl, queueNameOf(run.id), {
        onError: (reason) => options.logger.warn('queueTrouble', { reason }),
        onReconnected: () => coordinator?.post({ type: 'queueEmptied' }),
      });
      coordinator = new Coordinator(options, deadlines, server, control, producer);
      return coordinator;
    } catch (error) {
      await control?.close();
      await server.close();
      throw error;
    }
  }

  private constructor(
    options: CoordinatorOptions,
    deadlines: Deadlines,
    server: StateServer,
    control: ControlServer<WorkerMessage>,
    producer: JobProducer,
  ) {
    const { run } = options;
    this.#options = options;
    this.#log = run.log;
    this.#server = server;
    this.#control = control;
    this.#producer = producer;
    this.#reader = run.checkpoint;
    this.#committed = {
      step: run.startStep,
      tokensSeen: run.checkpoint?.manifest.tokensSeen ?? 0,
      commit: run.checkpoint?.manifest.commit ?? null,
    };
    this.#stored = this.#committed;
    const port = control.endpoint.slice(control.endpoint.lastIndexOf(':') + 1);
    this.endpoint = `tcp://${options.advertisedHost}:${port}`;
    this.#state = initialState(
      {
        run: run.id,
        totalSteps: run.config.steps,
        microBatches: run.config.step.microBatches,
        optimizer: run.config.optimizer,
        minWorkers: options.minWorkers,
        checkpointEvery: run.config.checkpoint.every,
        heartbeatLimitMs: deadlines.heartbeatLimitMs,
      },
      {
        step: run.startStep,
        recorded: new Map<number, RecordedStep>(run.recorded),
        layoutKey: run.checkpoint === null ? null : layoutKeyOf(run.checkpoint.layout),
      },
    );
    let settle: (outcome: Outcome) => void = () => {};
    let reject: (error: unknown) => void = () => {};
    this.outcome = new Promise((resolve, refuse) => {
      settle = resolve;
      reject = refuse;
    });
    this.#settle = settle;
    this.#reject = reject;
    this.#clock = new SteadyClock(deadlines.heartbeatIntervalMs, performance.now());
    this.#timer = setInterval(() => this.#tick(), deadlines.heartbeatIntervalMs);
  }

  get state(): CoordinatorState {
    return this.#state;
  }

  /** Finishes the step under way, writes a checkpoint and ends. */
  requestStop(): void {
    this.post({ type: 'stopRequested' });
  }

  post(event: CoordinatorEvent): void {
    if (this.#closed) return;
    this.#inbox.push(event);
    if (!this.#running) void this.#run();
  }

  writerOf(step: number, attempt: number): CheckpointWriter | null {
    const writing = this.#writing;
    return writing?.writer.step === step && writing.attempt === attempt ? writing.writer : null;
  }

  readerOf(step: number): CheckpointReader | null {
    return this.#reader?.step === step ? this.#reader : null;
  }

  /**
   * Some connection closed: sending to everyone tells whose. zeromq may announce the end before its
   * own tables know of it, hence more than one look, none of which waits for the next heartbeat.
   */
  findLost(): void {
    this.#sendHeartbeats();
    for (const delayMs of PROBE_DELAYS_MS) setTimeout(() => this.#sendHeartbeats(), delayMs).unref();
  }

  #sendHeartbeats(): void {
    if (this.#closed) return;
    for (const incarnation of this.#state.workers.keys()) this.#heartbeat(incarnation);
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#storing;
    await this.#control.close();
    await this.#server.close();
    await this.#enqueuing;
    await this.#producer.close();
    await this.#writing?.writer.abort();
    await this.#reader?.close();
    await this.#log.close();
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      for (let event = this.#inbox.shift(); event !== undefined; event = this.#inbox.shift()) {
        const { state, effects } = transition(this.#state, event);
        this.#state = state;
        for (const effect of effects) await this.#carryOut(effect);
      }
    } catch (error) {
      // The log does not take a commit, or a defect: nobody was told of what is not on disk.
      const reason = messageOf(error);
      for (const to of this.#state.workers.keys()) {
        this.#control.send(to, { ...this.#envelope(), ...this.#position(), type: 'stop', reason });
      }
      this.#inbox = [];
      this.#reject(error);
    } finally {
      this.#running = false;
    }
  }

  async #carryOut(effect: CoordinatorEffect): Promise<void> {
    switch (effect.type) {
      case 'send':
        this.#control.send(effect.to, { ...this.#envelope(), ...effect.message });
        return;
      case 'welcome':
        this.#welcome(effect.to, effect.worker);
        return;
      case 'enqueue':
        this.#enqueuing = this.#enqueuing
          .then(() => this.#producer.enqueue(effect.jobs))
          .catch((error: unknown) => this.#options.logger.warn('queueTrouble', { reason: messageOf(error) }));
        return;
      case 'appendCommit':
        await this.#appendCommit(effect.record);
        return;
      case 'appendFinished':
        // A run stopped while it repeats steps ends before the newest commit: nothing new to record.
        if (effect.step === this.#log.history.lastStep) {
          await this.#log.append({ kind: 'finished', step: effect.step, time: now() });
        }
        return;
      case 'beginCheckpoint':
        await this.#beginCheckpoint(effect.step, effect.attempt);
        return;
      case 'storeCheckpoint':
        this.#storing = this.#storeCheckpoint(effect.step);
        return;
      case 'abortCheckpoint':
        await this.#writing?.writer.abort();
        this.#writing = null;
        return;
      case 'committed':
        this.#noteTokens(effect.record);
        this.#options.listener?.onCommitted(effect.record, this.#state, effect.repeated);
        return;
      case 'note':
        this.#options.logger[effect.level](effect.event, effect.fields);
        return;
      case 'finish':
        await this.#storing;
        this.#settle(effect.outcome);
        return;
      default:
        unreachable(effect);
    }
  }

  #envelope(): Pick<Envelope, 'protocol' | 'run' | 'incarnation'> {
    return { protocol: PROTOCOL_VERSION, run: this.#options.run.id, incarnation: this.#incarnation };
  }

  #welcome(to: string, worker: string): void {
    const { run, advertisedRedisUrl, advertisedHost } = this.#options;
    this.#control.send(to, {
      ...this.#envelope(),
      ...this.#position(),
      type: 'welcome',
      worker,
      config: run.config,
      fingerprint: run.fingerprint,
      dataset: run.datasetSha256,
      redisUrl: advertisedRedisUrl,
      queueName: queueNameOf(run.id),
      httpUrl: `http://${advertisedHost}:${this.#server.port}`,
    });
  }

  /** Where the run stands, for messages that speak of no step in particular. */
  #position(): Pick<Envelope, 'generation' | 'step' | 'attempt'> {
    return { generation: this.#state.generation, step: this.#state.stateStep, attempt: 0 };
  }

  #heartbeat(incarnation: string): void {
    this.#control.send(incarnation, { ...this.#envelope(), ...this.#position(), type: 'heartbeat' });
  }

  #tick(): void {
    this.#sendHeartbeats();
    this.post({ type: 'tick', nowMs: this.#clock.tick(performance.now()) });
  }

  async #appendCommit(record: CommittedStep): Promise<void> {
    const { slots, ...step } = record;
    await this.#log.append({
      kind: 'committed',
      ...step,
      slots: slots.map(({ tokens, lossSum, worker }) => ({ tokens, lossSum, worker })),
      time: now(),
    });
  }

  /** A rewound run counts again from its checkpoint. */
  #noteTokens({ step, tokens, gradientDigest, parametersDigest }: CommittedStep): void {
    const before = step === this.#committed.step + 1 ? this.#committed : this.#stored;
    assert(step === before.step + 1, `step ${step} follows ${before.step}`);
    this.#committed = {
      step,
      tokensSeen: before.tokensSeen + tokens,
      commit: { gradientDigest, parametersDigest },
    };
  }

  async #beginCheckpoint(step: number, attempt: number): Promise<void> {
    assert(this.#committed.step === step, `the state is that of step ${this.#committed.step}, not ${step}`);
    const { layoutKey } = this.#state;
    assert(layoutKey !== null, 'members have told their layout');
    try {
      const writer = await this.#options.run.store.begin({ step, layout: layoutOfKey(layoutKey) });
      this.#writing = { writer, attempt, progress: this.#committed };
    } catch (error) {
      this.post(checkpointFailure(step, error));
    }
  }

  async #storeCheckpoint(step: number): Promise<void> {
    const { run, version } = this.#options;
    const writing = this.#writing;
    assert(
      writing !== null && writing.writer.step === step,
      `the checkpoint of step ${step} is being written`,
    );
    try {
      const manifest = await writing.writer.commit({
        runId: run.id,
        commit: writing.progress.commit,
        bitDeciding: { ...run.bitDeciding },
        fingerprint: run.fingerprint,
        datasetSha256: run.datasetSha256,
        tokensSeen: writing.progress.tokensSeen,
        createdAt: now(),
        lockstepVersion: version,
      });
      await this.#log.append({
        kind: 'checkpointed',
        step,
        weightsSha256: manifest.weightsSha256,
        time: now(),
      });
      const reader = await openCheckpoint(join(run.checkpointsDir, checkpointName(step)));
      await this.#reader?.close();
      this.#reader = reader;
      this.#stored = writing.progress;
      this.#writing = null;
      this.post({ type: 'checkpointStored', step });
    } catch (error) {
      this.#writing = null;
      this.post(checkpointFailure(step, error));
    }
  }
}

/** What is known of the state after a committed step. */
interface Progress {
  readonly step: number;
  /** Real target tokens of all steps so far. */
  readonly tokensSeen: number;
  readonly commit: { readonly gradientDigest: string; readonly parametersDigest: string } | null;
}

function checkpointFailure(step: number, error: unknown): CoordinatorEvent {
  const code = error instanceof LockstepError ? error.code : 'DISK_FULL';
  return { type: 'checkpointFailed', step, code, reason: messageOf(error) };
}

function queueNameOf(run: string): string {
  return `lockstep-${run}`;
}
