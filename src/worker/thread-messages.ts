/**
 * What the two threads of a worker say to each other. The compute thread (the process's main thread)
 * owns the engine; the comm thread owns sockets, job locks, heartbeats and the reduction.
 *
 * They share memory, and who may touch it follows from what was said last:
 *   parameters, moments   comm from `forget` to `load`; compute from `apply` or `load` until it answers;
 *                         otherwise read-only to both
 *   fragment buffers      of settled slots read-only to comm once they were told of; all else compute's
 *   reduced, block sums   comm from the start of a reduction until `apply`; compute until `applied`
 *   set-aside gradients   comm until `apply`; compute until `applied`
 */
import type { ErrorCode, ParameterLayout } from '../base/index.ts';
import type { RunConfig } from '../config/index.ts';
import type { LentVector } from '../net/index.ts';
import type { SlotResult } from '../protocol/index.ts';
import type { TransferTarget } from './coordinator-http.ts';

/** The flat vectors of a replica, each of the model's length, in memory that both threads see. */
export interface SharedState extends SharedGradient {
  readonly parameters: Float32Array;
  readonly firstMoment: Float32Array;
  readonly secondMoment: Float32Array;
}

/** A fragment as the comm thread finds it: a node of the reduction tree and the buffer of its value. */
export interface SharedFragment {
  readonly first: number;
  readonly count: number;
  readonly value: Float32Array;
}

/** A reduced gradient and the sums of its squares, block by block. */
export interface SharedGradient {
  readonly reduced: Float32Array;
  readonly blockSums: Float64Array;
}

/** The same as it is told to the other thread: see GradientMemory. */
export type Lent<Shared> = {
  readonly [Key in keyof Shared]: Shared[Key] extends Float32Array ? LentVector : Shared[Key];
};

export type ToCompute =
  /** Once for each comm thread; what was prepared before is kept if it is the same. */
  | {
      readonly type: 'prepare';
      readonly config: RunConfig;
      readonly datasetSha256: string;
      /** Where a worker without the data set's files fetches them. */
      readonly transfer: TransferTarget;
    }
  /** Fill the state with what the seed gives. */
  | { readonly type: 'initialize' }
  /** The state is about to be overwritten. */
  | { readonly type: 'forget' }
  /** The comm thread has filled the state with that of this step; take it in. */
  | { readonly type: 'load'; readonly step: number }
  /** Go on with the state that is held. */
  | { readonly type: 'adopt' }
  | {
      readonly type: 'compute';
      readonly job: string;
      readonly step: number;
      readonly first: number;
      readonly count: number;
      /** See SlotGate. */
      readonly gate: BigInt64Array;
    }
  | { readonly type: 'discardFragments' }
  | {
      readonly type: 'apply';
      readonly step: number;
      readonly tokens: number;
      readonly learningRate: number;
      readonly gradient: Lent<SharedGradient>;
    }
  /** The step is over without an update. */
  | { readonly type: 'skip'; readonly step: number };

export type FromCompute =
  | {
      readonly type: 'prepared';
      readonly layout: ParameterLayout;
      readonly device: string;
      readonly engineVersion: string;
      readonly state: Lent<SharedState>;
      /** What it holds from before, when it was prepared for another comm thread. */
      readonly held: { readonly step: number; readonly parametersDigest: string } | null;
    }
  | { readonly type: 'loaded'; readonly parametersDigest: string }
  | {
      readonly type: 'slotComputed';
      readonly job: string;
      readonly result: SlotResult;
      /** All fragments held; this slot's among them, unless sums are still on the device. */
      readonly fragments: readonly Lent<SharedFragment>[];
      /** Sums of settled slots are on the device: `fragmentsHome` follows at the latest with the end of the range. */
      readonly areOnDevice: boolean;
      readonly milliseconds: number;
      readonly dataMilliseconds: number;
      /** Held by the engine's tensors. */
      readonly engineBytes: number;
    }
  /** All sums of settled slots are in memory. */
  | { readonly type: 'fragmentsHome'; readonly fragments: readonly Lent<SharedFragment>[] }
  /** Done with a job, or with as much of it as its gate let through. */
  | { readonly type: 'rangeEnded'; readonly job: string }
  | { readonly type: 'notFinite'; readonly step: number; readonly slot: number; readonly reason: string }
  | {
      readonly type: 'applied';
      readonly step: number;
      readonly parametersDigest: string;
      readonly milliseconds: number;
    }
  /** The thread cannot go on; the process ends with this message. */
  | { readonly type: 'failed'; readonly code: ErrorCode | 'UNEXPECTED'; readonly message: string };
