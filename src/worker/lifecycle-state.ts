/**
 * A worker's state as its comm thread sees it, the events that move it and the effects it decides on:
 * all plain data. lifecycle.ts and taking-part.ts hold the transitions.
 */
import type { ErrorCode } from '../base/index.ts';
import type {
  CoordinatorMessage,
  HeldState,
  Job,
  MemberAddress,
  Said,
  SlotResult,
  WorkerMessage,
} from '../protocol/index.ts';

export type Welcome = Extract<CoordinatorMessage, { type: 'welcome' }>;
/** An order to reduce, with the members of its generation in rank order. */
export interface ReduceOrder extends Extract<CoordinatorMessage, { type: 'reduce' }> {
  readonly members: readonly MemberAddress[];
}

export interface LifecycleSettings {
  readonly incarnation: string;
  /** How long a first answer, and any sign of life after it, may take. */
  readonly coordinatorLimitMs: number;
  readonly helloIntervalMs: number;
  /** Reduced gradients that may wait for a replica that lags behind. */
  readonly backlogMax: number;
}

/** A part of the state for the checkpoint that `attempt` names. */
export interface UploadOrder {
  readonly step: number;
  readonly attempt: number;
  /** In floats, of every state vector. */
  readonly offset: number;
  readonly length: number;
}

export interface HeldJob {
  readonly job: Job;
  readonly status: 'asked' | 'granted' | 'finished';
  /** Slots of it that are in the fragments. */
  readonly numDone: number;
}

/** A committed step that the replica has not taken in yet. */
export type Update =
  | {
      readonly kind: 'apply';
      readonly step: number;
      readonly tokens: number;
      readonly learningRate: number;
      /** Where its gradient lies: where it was reduced, or in a copy of that. */
      readonly from: 'reduced' | 'setAside';
    }
  | { readonly kind: 'skip'; readonly step: number };

/** How far this worker's parameters and moments have come. */
export type Replica =
  /** It has none: it follows the run, and waits for what to load. */
  | { readonly kind: 'absent' }
  | {
      readonly kind: 'loading';
      readonly step: number;
      readonly source: 'initial' | 'checkpoint' | 'held';
      /** Not before the compute thread is done with what it did before. */
      readonly started: boolean;
    }
  | { readonly kind: 'held'; readonly step: number; readonly parametersDigest: string };

export interface ReductionUnderWay {
  readonly generation: number;
  readonly step: number;
  readonly attempt: number;
  /** Of the reduced gradient, once it is there. */
  readonly gradientDigest: string | null;
  /** The vote waits while there is no room to set another gradient aside. */
  readonly voted: boolean;
}

/**
 * A worker that takes part in reductions. Its replica may lag behind the run, because it is only being
 * loaded or because the device is slow: the reduced gradients of committed steps then wait in `backlog`,
 * nobody waits for this worker, and it computes nothing until it has caught up.
 */
export interface TakingPart {
  readonly phase: 'takingPart';
  readonly generation: number;
  /** The newest step known to be committed; null before the first. */
  readonly committedStep: number | null;
  readonly replica: Replica;
  /** Committed steps after the replica's, and after the one being applied, in order. */
  readonly backlog: readonly Update[];
  /** What the compute thread is taking in. */
  readonly applying: Update | null;
  /** The job that the compute thread works on, wanted or not. */
  readonly computing: string | null;
  /** The coordinator knows that the replica has caught up. */
  readonly announced: boolean;
  readonly draining: boolean;
  /** A job is waited for. */
  readonly pulling: boolean;
  readonly jobs: ReadonlyMap<string, HeldJob>;
  /** Who takes part in the reductions of a generation, as it was told last; null before the first. */
  readonly members: { readonly generation: number; readonly inRankOrder: readonly MemberAddress[] } | null;
  readonly reduction: ReductionUnderWay | null;
  /** An order to reduce that came while the gradient of the step before is still in its place. */
  readonly heldOrder: ReduceOrder | null;
  /** A part of the state to upload as soon as the update of its step is applied. */
  readonly snapshot: UploadOrder | null;
}

export type LifecyclePhase =
  | { readonly phase: 'greeting'; readonly lastHelloMs: number | null }
  | { readonly phase: 'preparing' }
  | { readonly phase: 'prepared' }
  | TakingPart
  | { readonly phase: 'ended' };

export interface LifecycleState {
  readonly settings: LifecycleSettings;
  readonly nowMs: number;
  readonly lastHeardMs: number;
  readonly worker: string | null;
  readonly life: LifecyclePhase;
}

/** What the compute thread, the queue and the reduction report to a worker that takes part. */
export type WorkEvent =
  | { readonly type: 'stateLoaded'; readonly parametersDigest: string }
  | { readonly type: 'stateFailed'; readonly reason: string }
  | { readonly type: 'jobLeased'; readonly id: string; readonly job: Job }
  | {
      readonly type: 'slotComputed';
      readonly job: string;
      readonly result: SlotResult;
      readonly milliseconds: number;
    }
  /** The compute thread is done with a job, or with as much of it as it was left. */
  | { readonly type: 'rangeEnded'; readonly job: string }
  /** The answer to `limitJob`: no slot from `first` on is in the fragments, or will be. */
  | { readonly type: 'jobLimited'; readonly id: string; readonly first: number }
  | {
      readonly type: 'notFinite';
      readonly step: number;
      readonly slot: number | null;
      readonly reason: string;
    }
  | {
      readonly type: 'reductionFinished';
      readonly generation: number;
      readonly attempt: number;
      readonly gradientDigest: string;
    }
  | {
      readonly type: 'reductionFailed';
      readonly generation: number;
      readonly attempt: number;
      readonly reason: string;
    }
  | { readonly type: 'applied'; readonly step: number; readonly parametersDigest: string }
  | { readonly type: 'uploaded'; readonly order: UploadOrder; readonly parametersDigest: string }
  | { readonly type: 'uploadFailed'; readonly order: UploadOrder; readonly reason: string };

export type LifecycleEvent =
  | { readonly type: 'tick'; readonly nowMs: number }
  | { readonly type: 'messageArrived'; readonly message: CoordinatorMessage }
  /** Messages of the coordinator were lost on the way. */
  | { readonly type: 'messagesLost' }
  /** The run's own deadline takes the place of the one for greeting. */
  | { readonly type: 'configured'; readonly coordinatorLimitMs: number }
  | { readonly type: 'computePrepared'; readonly backlogMax: number }
  | { readonly type: 'drainRequested' }
  | WorkEvent;

export type Ending =
  | { readonly kind: 'stopped'; readonly reason: string }
  /** Declared lost by a coordinator that goes on, or unknown to one that is new: come back as new. */
  | {
      readonly kind: 'evicted';
      readonly reason: string;
      /** Who it was. */
      readonly incarnation: string;
      readonly name: string | null;
      /** The reduced gradient that lies in its place, if this worker has voted for it. */
      readonly pending: HeldState['pending'];
      /** How long it would have waited for the coordinator: whoever comes back knows the run, and waits as long. */
      readonly coordinatorLimitMs: number;
    }
  | { readonly kind: 'failed'; readonly code: ErrorCode | 'UNEXPECTED'; readonly reason: string };

export type LifecycleEffect =
  | { readonly type: 'send'; readonly message: Said<WorkerMessage> }
  /** The driver fills in host, process and addresses. */
  | { readonly type: 'sayHello' }
  | { readonly type: 'prepare'; readonly welcome: Welcome }
  /** The driver adds layout, device and what is held from before. */
  | { readonly type: 'sayPrepared' }
  | {
      readonly type: 'loadState';
      readonly step: number;
      readonly source: 'initial' | 'checkpoint' | 'held';
    }
  /** The run stands at this step: frames of it and of those before are of attempts that are over. */
  | { readonly type: 'follow'; readonly step: number }
  | { readonly type: 'pullJob' }
  | { readonly type: 'releaseJob'; readonly id: string }
  | { readonly type: 'compute'; readonly id: string; readonly job: Job }
  /** Keeps slots from `first` on out of the fragments, as far as they are not in; `jobLimited` follows. */
  | { readonly type: 'limitJob'; readonly id: string; readonly first: number }
  /** The compute thread forgets its fragments. */
  | { readonly type: 'discardFragments' }
  | { readonly type: 'startReduction'; readonly order: ReduceOrder }
  | { readonly type: 'abortReduction' }
  /** The driver adds the times of the step before. */
  | { readonly type: 'vote'; readonly message: Omit<Extract<Said<WorkerMessage>, { type: 'vote' }>, 'times'> }
  /** The step has committed: its attempts are over. */
  | { readonly type: 'committed'; readonly step: number }
  /** Copies the reduced gradient, for `apply` later. */
  | { readonly type: 'setAside'; readonly step: number }
  /** Forgets what was set aside, except for these steps. */
  | { readonly type: 'keepSetAside'; readonly steps: readonly number[] }
  | { readonly type: 'apply'; readonly update: Update }
  | { readonly type: 'upload'; readonly order: UploadOrder; readonly parametersDigest: string }
  | { readonly type: 'end'; readonly ending: Ending };
