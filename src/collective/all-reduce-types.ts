/**
 * What goes into and comes out of an all-reduce machine (all-reduce.ts): data only. The machine never
 * sees a number of the gradient; it says which ranges to send and add, and the driver does so.
 *
 * Frames: an arriving payload stays with the driver, which names it by an id of its choosing. A frame
 * is lent to the machine by the event that brings it, may be overwritten by an `add` into it, and is
 * given back by exactly one `release`.
 */
import type { SlotRange } from '../base/index.ts';
import type { VectorRange } from './shard-plan.ts';

/** Names one try at reducing one step; the driver stamps it on what it sends and routes arrivals by it. */
export interface AttemptId {
  readonly generation: number;
  readonly step: number;
  readonly attempt: number;
}

export interface AllReduceConfig {
  readonly identity: AttemptId;
  /** This rank's place in the generation's member list: 0 .. numRanks-1. */
  readonly rank: number;
  readonly numRanks: number;
  /** By rank, equal for ranks that reach each other without a wire (topology.ts). */
  readonly hosts: readonly number[];
  /** Length of the flat vector. */
  readonly totalFloats: number;
  /** Longest piece of a shard, a multiple of BLOCK_FLOATS. */
  readonly pieceFloats: number;
  /** The rank that computed each slot; its length is the step's number of slots (M). */
  readonly slotOwners: readonly number[];
}

/** Where the driver finds one side of an addition; offset and length are the effect's. */
export type Operand =
  /** This rank's own fragment `node`: the range at the effect's offset. Read only: a later attempt needs it. */
  | { readonly kind: 'local'; readonly node: SlotRange }
  /** A frame received for just this range: the whole of it. */
  | { readonly kind: 'frame'; readonly frame: number }
  /** The reduced vector, at the effect's offset. */
  | { readonly kind: 'reduced' };

export type AllReduceEvent =
  /** This rank's fragments may be read and its reduced vector written. Once, and first. */
  | { readonly type: 'started' }
  /** `from` sent a fragment for a piece that this rank adds up: its own, or the sum of those of its host. */
  | ({ readonly type: 'fragmentArrived' } & Arrival & { readonly node: SlotRange })
  /** `from` sent a finished piece, of its own shard or passed on. */
  | ({ readonly type: 'reducedArrived' } & Arrival)
  /** The attempt is void: a member was lost, or the coordinator said so. */
  | { readonly type: 'aborted' };

/** The driver has checked that the frame holds `length` floats, undamaged, and who sent it. */
interface Arrival extends VectorRange {
  readonly from: number;
  readonly frame: number;
}

/** Run in list order. A send copies or pins its range before anything after it overwrites the range. */
export type AllReduceEffect =
  | ({
      readonly type: 'sendFragment';
      readonly to: number;
      readonly node: SlotRange;
      readonly from: Exclude<Operand, { kind: 'reduced' }>;
    } & VectorRange)
  /** From the reduced vector, whose range is final by then. */
  | ({ readonly type: 'sendReduced'; readonly to: number } & VectorRange)
  /** into = left + right by the flushing kernel; `into` may be one of the two. */
  | ({ readonly type: 'add' } & VectorRange & {
        readonly left: Operand;
        readonly right: Operand;
        readonly into: Operand;
      })
  /** Copies a finished range into the reduced vector. */
  | ({ readonly type: 'storeReduced'; readonly from: Operand } & VectorRange)
  | { readonly type: 'release'; readonly frame: number }
  /** The whole vector is reduced: the last effect but for later rejections. */
  | { readonly type: 'finished' }
  /** An arrival was refused and left no trace; to be counted, and logged with its reason. */
  | {
      readonly type: 'reject';
      readonly from: number;
      readonly kind: RejectKind;
      /** One line that names the slot or range. */
      readonly reason: string;
    };

export type RejectKind =
  /** Before `started`, or after the end. */
  | 'not-reducing'
  /** From a rank that has nothing to send here. */
  | 'foreign-rank'
  /** Not a piece of the shard plan, or not this rank's to add up, or not the sender's to tell. */
  | 'unknown-piece'
  /** A fragment of slots that neither the sender nor those whom it speaks for have computed. */
  | 'foreign-slots'
  /** Not a node of the tree. */
  | 'not-a-node'
  /** A slot that is already in the sum, or a piece delivered twice. */
  | 'overlap';

export function sameAttempt(a: AttemptId, b: AttemptId): boolean {
  return a.generation === b.generation && a.step === b.step && a.attempt === b.attempt;
}
