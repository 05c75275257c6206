/**
 * What the two threads of a worker say to each other. The compute thread (the process's main thread)
 * owns the engine; the comm thread owns sockets, job locks, heartbeats and the reduction.
 *
 * They share memory, and who may touch it follows from what was said last:
 *   parameters, moments   compute from `apply` or `load` until it answers; otherwise read-only to both
 *   fragment buffers      compute from `compute` until `computed`; otherwise read-only to comm
 *   reduced, block sums   comm from the start of a reduction until `apply`; compute until `applied`
 */
import type { ErrorCode, ParameterLayout } from '../base/index.ts';
import type { RunConfig } from '../config/index.ts';
import type { SlotResult } from '../protocol/index.ts';
import type { TransferTarget } from './coordinator-http.ts';

/** The flat vectors of a replica, each of the model's length, over SharedArrayBuffers. */
export interface SharedState {
  readonly parameters: Float32Array;
  readonly firstMoment: Float32Array;
  readonly secondMoment: Float32Array;
  /** The step's reduced gradient: the sum over its tokens. */
  readonly reduced: Float32Array;
  /** Sum of squares of `reduced`, block by block. */
  readonly blockSums: Float64Array;
}

/** A fragment as the comm thread finds it: a node of the reduction tree and the buffer of its value. */
export interface SharedFragment {
  readonly first: number;
  readonly count: number;
  readonly value: Float32Array;
}

export type ToCompute =
  | {
      readonly type: 'prepare';
      readonly config: RunConfig;
      readonly datasetSha256: string;
      /** Where a worker without the data set's files fetches them. */
      readonly transfer: TransferTarget;
    }
  /** Fill the state with what the seed gives. */
  | { readonly type: 'initialize' }
  /** The comm thread has filled the state; take it in. */
  | { readonly type: 'load' }
  | {
      readonly type: 'compute';
      readonly job: string;
      readonly step: number;
      readonly first: number;
      readonly count: number;
    }
  | { readonly type: 'apply'; readonly step: number; readonly tokens: number; readonly learningRate: number };

export type FromCompute =
  | {
      readonly type: 'prepared';
      readonly layout: ParameterLayout;
      readonly device: string;
      readonly engineVersion: string;
      readonly state: SharedState;
    }
  | { readonly type: 'loaded'; readonly parametersDigest: string }
  | {
      readonly type: 'computed';
      readonly job: string;
      readonly results: readonly SlotResult[];
      /** All fragments held after this range. */
      readonly fragments: readonly SharedFragment[];
      readonly milliseconds: number;
      readonly dataMilliseconds: number;
    }
  | { readonly type: 'notFinite'; readonly step: number; readonly slot: number; readonly reason: string }
  | {
      readonly type: 'applied';
      readonly step: number;
      readonly parametersDigest: string;
      readonly milliseconds: number;
    }
  /** The thread cannot go on; the process ends with this message. */
  | { readonly type: 'failed'; readonly code: ErrorCode | 'UNEXPECTED'; readonly message: string };
