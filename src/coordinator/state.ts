/**
 * The coordinator's state, the events that move it and the effects it decides on: all plain data.
 * machine.ts holds the transitions.
 */
import type { ErrorCode, LogFields } from '../base/index.ts';
import type { OptimizerConfig } from '../config/index.ts';
import type {
  CoordinatorMessage,
  HeldState,
  Job,
  MemoryAddress,
  PhaseTimes,
  Said,
  WorkerMessage,
} from '../protocol/index.ts';
import type { Ledger } from './ledger.ts';

export interface CoordinatorSettings {
  readonly run: string;
  readonly totalSteps: number;
  readonly microBatches: number;
  readonly optimizer: OptimizerConfig;
  /** Workers that must be ready before the first step is planned. */
  readonly minWorkers: number;
  /** Whether workers may compute with other engines than each other's. */
  readonly mixedEngines: boolean;
  /** Whether step 0 has a checkpoint, of the weights the run was given, instead of being drawn from the seed. */
  readonly startsFromCheckpoint: boolean;
  /** Steps from one checkpoint to the next. */
  readonly checkpointEvery: number;
  readonly heartbeatLimitMs: number;
}

/**
 * A worker's way through the membership. One that follows takes part in reductions, so that it has every
 * gradient from there on, while its state is on the way or catches up; a member holds the state and
 * computes. One that leaves has been told to stop.
 */
export type WorkerPhase = 'preparing' | 'prepared' | 'following' | 'member' | 'leaving';

export interface WorkerRecord {
  readonly incarnation: string;
  readonly worker: string;
  readonly host: string;
  readonly pid: number;
  readonly peerEndpoint: string;
  readonly peerMemory: MemoryAddress | null;
  readonly device: string;
  readonly phase: WorkerPhase;
  readonly lastHeardMs: number;
  /** Slots per second, smoothed; null until the worker has computed something. */
  readonly speed: number | null;
  /** Digest of the parameters it entered with. */
  readonly parametersDigest: string | null;
  /** The generation whose members it was told last. */
  readonly membersTold: number | null;
  /** What it had kept when it came back. */
  readonly held: HeldState | null;
  /** While it follows: it has the gradients of all steps after this one. */
  readonly followsFrom: number;
  /** While it follows: it was told what state to enter with. */
  readonly isEntering: boolean;
  /** Times that it could not get that state. */
  readonly numStateFailures: number;
  /** Times that its bits were found to differ. */
  readonly numQuarantines: number;
  /** Its replica has not taken in the newest step yet; it computes nothing meanwhile. */
  readonly isLagging: boolean;
  /** It wants to leave: it gets no more slots, and goes when the step is over. */
  readonly isDraining: boolean;
  /** It was slow enough that slots were taken back from it. */
  readonly isStraggler: boolean;
  readonly residentBytes: number;
  /** Held by the engine's tensors; null before it has computed anything. */
  readonly engineBytes: number | null;
  /** Gradients exchanged with peers since the worker was started. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly times: PhaseTimes | null;
}

export interface Vote {
  readonly gradientDigest: string;
  /** Null from a replica that lags behind. */
  readonly parametersDigest: string | null;
}

/** What the commit log must keep of a step to prove a repetition of it right. */
export type RecordedStep =
  | {
      readonly kind: 'committed';
      readonly gradientDigest: string;
      readonly parametersDigest: string;
      readonly tokens: number;
    }
  | { readonly kind: 'skipped' };

/** Workers that may come back with a newer state than the newest checkpoint, and until when they may. */
export interface Awaited {
  readonly names: ReadonlySet<string>;
  /** Null until the first tick. */
  readonly untilMs: number | null;
}

/** What the run is doing; each variant holds only what that phase needs. */
export type Activity =
  /** Nothing is planned: members are missing, or joiners must take the state first. */
  | { readonly phase: 'gathering' }
  | {
      readonly phase: 'computing';
      readonly ledger: Ledger;
      readonly attempt: number;
      /** When a range was last planned, leased or computed. */
      readonly progressMs: number;
      /** Heartbeat limits that may go by without, before waiting ranges are planned anew; more each time. */
      readonly patience: number;
    }
  | {
      readonly phase: 'reducing';
      readonly ledger: Ledger;
      readonly attempt: number;
      readonly votes: ReadonlyMap<string, Vote>;
    }
  /** The last step is committed; the final checkpoint is being written. */
  | { readonly phase: 'closing' }
  | { readonly phase: 'finished' };

export interface CheckpointInFlight {
  readonly step: number;
  /** Tells tries apart: what is left of one that was given up must not come in as a part of the next. */
  readonly attempt: number;
  /** Incarnations whose upload is not complete; empty while the coordinator verifies and stores. */
  readonly pending: ReadonlySet<string>;
  /** What each part's parameters digest to, by incarnation. */
  readonly digests: ReadonlyMap<string, string>;
}

export interface CoordinatorState {
  readonly settings: CoordinatorSettings;
  readonly nowMs: number;
  readonly generation: number;
  /** The committed step whose result the members hold. */
  readonly stateStep: number;
  /** Step of the newest stored checkpoint; 0 is the start, which is stored only if the run has been given weights. */
  readonly storedStep: number;
  /** Commits after `storedStep` that the log holds. A repetition must agree with them. */
  readonly recorded: ReadonlyMap<number, RecordedStep>;
  readonly workers: ReadonlyMap<string, WorkerRecord>;
  /** Shapes and names of the parameters, as the first worker told them. */
  readonly layoutKey: string | null;
  /** Name and version of what computes, likewise. */
  readonly engineVersion: string | null;
  readonly checkpoint: CheckpointInFlight | null;
  /** A checkpoint is wanted at the next commit. */
  readonly checkpointDue: boolean;
  /** Checkpoints begun so far. */
  readonly numCheckpoints: number;
  /** Checkpoints in a row that a worker could not upload its part of. */
  readonly uploadFailures: number;
  /** Steps in a row that were skipped. */
  readonly skippedInRow: number;
  /** While nobody holds the state: who is waited for. */
  readonly awaited: Awaited | null;
  readonly stopRequested: boolean;
  readonly startedComputing: boolean;
  readonly activity: Activity;
}

export type CoordinatorEvent =
  | { readonly type: 'messageArrived'; readonly message: WorkerMessage }
  | { readonly type: 'connectionLost'; readonly incarnation: string; readonly reason: string }
  | { readonly type: 'tick'; readonly nowMs: number }
  | { readonly type: 'stopRequested' }
  /** Someone wants a worker to leave politely. */
  | { readonly type: 'drainRequested'; readonly incarnation: string }
  /** Someone wants a worker to go at once. */
  | { readonly type: 'evictRequested'; readonly incarnation: string }
  | { readonly type: 'queueEmptied' }
  | { readonly type: 'checkpointStored'; readonly step: number }
  | {
      readonly type: 'checkpointFailed';
      readonly step: number;
      readonly code: ErrorCode;
      readonly reason: string;
    };

/** One committed step, as it goes to the commit log. */
export interface CommittedStep {
  readonly step: number;
  readonly generation: number;
  readonly attempt: number;
  readonly tokens: number;
  /** Sum over the step's real target tokens, in nats. */
  readonly lossSum: number;
  readonly learningRate: number;
  readonly gradientDigest: string;
  readonly parametersDigest: string;
  readonly slots: readonly { slot: number; tokens: number; lossSum: number; worker: string }[];
}

/** A step that left the parameters as they were, as it goes to the commit log. */
export interface SkippedStep {
  readonly step: number;
  readonly generation: number;
  readonly slot: number | null;
  readonly worker: string;
  readonly reason: string;
}

export type Outcome =
  | { readonly kind: 'completed'; readonly step: number }
  | { readonly kind: 'stopped'; readonly step: number }
  | { readonly kind: 'failed'; readonly step: number; readonly failure: Failure };

export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
}

export type CoordinatorEffect =
  | { readonly type: 'send'; readonly to: string; readonly message: Said<CoordinatorMessage> }
  /** The shell adds the run's configuration, which the machine has no use for. */
  | { readonly type: 'welcome'; readonly to: string; readonly worker: string }
  | { readonly type: 'enqueue'; readonly jobs: readonly Job[] }
  /** Must be on disk before the next effect is carried out. */
  | { readonly type: 'appendCommit'; readonly record: CommittedStep }
  | { readonly type: 'appendSkipped'; readonly record: SkippedStep }
  /** The run has come to its end, or was told to stop, after this step. */
  | { readonly type: 'appendFinished'; readonly step: number }
  | { readonly type: 'beginCheckpoint'; readonly step: number; readonly attempt: number }
  | { readonly type: 'storeCheckpoint'; readonly step: number }
  | { readonly type: 'abortCheckpoint'; readonly step: number; readonly reason: string }
  | { readonly type: 'committed'; readonly record: CommittedStep; readonly repeated: boolean }
  | { readonly type: 'skipped'; readonly step: number }
  | {
      readonly type: 'note';
      readonly level: 'info' | 'warn' | 'error';
      readonly event: string;
      readonly fields: LogFields;
    }
  | { readonly type: 'finish'; readonly outcome: Outcome };
