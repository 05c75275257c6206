/**
 * The coordinator's driver: sockets, Redis, files and clocks around the machine of machine.ts.
 *
 * One inbox, one loop, one event at a time; the effects of an event are carried out in order before
 * the next one is taken. Only appending to the commit log holds the loop up, because nobody may
 * hear of a commit that is not on disk. This file decides nothing.
 */
import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { assert, type Logger, messageOf, SteadyClock, unreachable } from '../base/index.ts';
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
import { CheckpointKeeper, checkpointFailure } from './checkpoint-keeper.ts';
import type { DataBlocks } from './data-routes.ts';
import { layoutKeyOf } from './layout-key.ts';
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

/** What a message is refused for whose sender is told that it was evicted. */
const STALE_INCARNATION = 'a message of an incarnation that takes no part any more';
/** When to look again for the worker whose connection closed. */
const PROBE_DELAYS_MS = [20, 100];
/** How often the machine is told the time: slots are taken back from stragglers no finer than this. */
const TICK_MS = 50;

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
  readonly #refusals: Refusals;
  readonly #incarnation = randomUUID();
  readonly #settle: (outcome: Outcome) => void;
  readonly #reject: (error: unknown) => void;
  #state: CoordinatorState;
  #inbox: CoordinatorEvent[] = [];
  #running = false;
  #timer: NodeJS.Timeout | null = null;
  readonly #clock: SteadyClock;
  #enqueuing: Promise<void> = Promise.resolve();
  readonly #checkpoints: CheckpointKeeper;
  #lastHeartbeatMs = 0;
  readonly #heartbeatIntervalMs: number;
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
        writerOf: (step, attempt) => coordinator?.checkpoints.writerOf(step, attempt) ?? null,
        readerOf: (step) => coordinator?.checkpoints.readerOf(step) ?? null,
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
          onMessage: (message) => coordinator?.hear(message),
          onRefused: (reason) => refusals.add(reason),
          onUnreachable: (incarnation) =>
            coordinator?.post({ type: 'connectionLost', incarnation, reason: 'its connection closed' }),
          onMessagesLost: (incarnation) =>
            coordinator?.post({
              ...{ type: 'connectionLost', incarnation, reason: 'messages of it were lost on the way' },
            }),
          onDisconnect: () => coordinator?.findLost(),
        },
      );
      const producer = await JobProducer.open(options.redisUrl, queueNameOf(run.id), {
        onError: (reason) => options.logger.warn('queueTrouble', { reason }),
        onReconnected: () => coordinator?.post({ type: 'queueEmptied' }),
      });
      coordinator = new Coordinator(options, deadlines, server, control, producer, refusals);
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
    refusals: Refusals,
  ) {
    const { run } = options;
    this.#options = options;
    this.#log = run.log;
    this.#server = server;
    this.#control = control;
    this.#producer = producer;
    this.#checkpoints = new CheckpointKeeper(run, options.version, (event) => this.post(event));
    this.#refusals = refusals;
    const port = control.endpoint.slice(control.endpoint.lastIndexOf(':') + 1);
    this.endpoint = `tcp://${options.advertisedHost}:${port}`;
    this.#state = initialState(
      {
        run: run.id,
        totalSteps: run.config.steps,
        microBatches: run.config.step.microBatches,
        optimizer: run.config.optimizer,
        minWorkers: options.minWorkers,
        mixedEngines: run.config.mixedEngines,
        startsFromCheckpoint: run.config.start !== null,
        checkpointEvery: run.config.checkpoint.every,
        heartbeatLimitMs: deadlines.heartbeatLimitMs,
      },
      {
        step: run.startStep,
        recorded: new Map<number, RecordedStep>(run.recorded),
        lastWorkers: run.lastWorkers,
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
    this.#heartbeatIntervalMs = deadlines.heartbeatIntervalMs;
    this.#clock = new SteadyClock(deadlines.heartbeatIntervalMs, performance.now());
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  get state(): CoordinatorState {
    return this.#state;
  }

  get checkpoints(): CheckpointKeeper {
    return this.#checkpoints;
  }

  /** Asks a worker to leave politely. Unknown ones have left already. */
  requestDrain(incarnation: string): void {
    this.post({ type: 'drainRequested', incarnation });
  }

  /** Lets a worker go at once and for good; the run goes on without it. */
  evict(incarnation: string): void {
    this.post({ type: 'evictRequested', incarnation });
  }

  /** A worker's message, with the time it came at. */
  hear(message: WorkerMessage): void {
    this.#tellTime();
    this.post({ type: 'messageArrived', message });
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
    this.#refusals.tell();
    await this.#checkpoints.settled();
    await this.#control.close();
    await this.#server.close();
    await this.#enqueuing;
    await this.#producer.close();
    await this.#checkpoints.close();
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
        if (effect.message.type === 'evicted') this.#refusals.add(STALE_INCARNATION);
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
      case 'appendSkipped':
        await this.#log.append({ kind: 'skipped', ...effect.record, time: now() });
        return;
      case 'appendFinished':
        // A run stopped while it repeats steps ends before the newest commit: nothing new to record.
        if (effect.step === this.#log.history.lastStep) {
          await this.#log.append({ kind: 'finished', step: effect.step, time: now() });
        }
        return;
      case 'beginCheckpoint':
        assert(this.#state.layoutKey !== null, 'members have told their layout');
        await this.#checkpoints.begin(effect.step, effect.attempt, this.#state.layoutKey);
        return;
      case 'storeCheckpoint':
        this.#checkpoints.store(effect.step);
        return;
      case 'abortCheckpoint':
        await this.#checkpoints.abort();
        return;
      case 'skipped':
        this.#checkpoints.noteSkipped(effect.step);
        return;
      case 'committed':
        this.#checkpoints.noteCommitted(effect.record);
        this.#options.listener?.onCommitted(effect.record, this.#state, effect.repeated);
        return;
      case 'note':
        this.#options.logger[effect.level](effect.event, effect.fields);
        return;
      case 'finish':
        await this.#checkpoints.settled();
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
    const nowMs = performance.now();
    if (nowMs - this.#lastHeartbeatMs >= this.#heartbeatIntervalMs) {
      this.#lastHeartbeatMs = nowMs;
      this.#sendHeartbeats();
      this.#refusals.tell();
    }
    this.#tellTime();
  }

  #tellTime(): void {
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
}

/** The name of a run's queue. */
export function queueNameOf(run: string): string {
  return `lockstep-${run}`;
}
