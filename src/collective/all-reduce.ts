/**
 * One attempt at an all-reduce, as one rank sees it: a synchronous, total, deterministic state machine
 * with one entrance. Reduce-scatter: every rank sends its fragments of each other rank's shard to the
 * owner, piece by piece. All-gather: the owner sends each piece to all others once its tree is finished.
 * With aligned slots a rank sends 2 (N-1)/N of the vector (Patarasuk & Yuan, J. Parallel Distrib. Comput.
 * 69, 2009). From one host to another both go through one rank of a host (topology.ts), so that a host of
 * H with aligned slots sends 2 (H-1)/H of the vector.
 *
 *   waiting --started--> reducing --last piece--> finished
 *      \---- aborted ------> aborted <---- aborted ---/
 *
 * Invariants: a piece is finished only when its fragments cover every slot exactly once, each from the
 * rank that `slotOwners` names; every frame brought by an event is released exactly once; local
 * fragments are never written, so a void attempt leaves what the next one needs.
 *
 * A faster peer's frames may arrive before this rank has heard of the attempt. The driver holds them,
 * up to a bound, and stops reading its socket beyond that (the transport then holds back the sender);
 * they are given to the machine after `started`. One that it gets earlier is refused. In turn, `finished`
 * says that this rank has every result; its own sends to slower peers may still be under way then.
 */
import { assert, type SlotRange, unreachable } from '../base/index.ts';
import type {
  AllReduceConfig,
  AllReduceEffect,
  AllReduceEvent,
  AttemptId,
  RejectKind,
} from './all-reduce-types.ts';
import type { CoverageError } from './fragment-set.ts';
import { PieceSum } from './piece-sum.ts';
import { maximalSubtrees } from './reduction-tree.ts';
import { type Piece, planPieces, type VectorRange } from './shard-plan.ts';
import { Topology } from './topology.ts';

export type AllReducePhase = 'waiting' | 'reducing' | 'finished' | 'aborted';

type ArrivalEvent = Extract<AllReduceEvent, { readonly frame: number }>;
interface Refusal {
  readonly kind: RejectKind;
  readonly reason: string;
}

export class AllReduce {
  readonly #config: AllReduceConfig;
  /** By owner, in order. */
  readonly #pieces: readonly (readonly Piece[])[];
  readonly #pieceAt: ReadonlyMap<number, Piece>;
  readonly #topology: Topology;
  /** The sums over the pieces that this rank owns, or leads for its host; by offset. */
  readonly #sums: ReadonlyMap<number, PieceSum>;
  /** Offsets of the pieces whose result is not here yet. */
  readonly #awaited: Set<number>;
  #phase: AllReducePhase = 'waiting';

  constructor(config: AllReduceConfig) {
    const { rank, numRanks, hosts, totalFloats, pieceFloats, slotOwners } = config;
    assert(rank >= 0 && rank < numRanks, `rank ${rank} of ${numRanks}`);
    assert(hosts.length === numRanks, `${hosts.length} hosts for ${numRanks} ranks`);
    for (const owner of slotOwners) assert(owner >= 0 && owner < numRanks, `slot owner ${owner} is no rank`);
    this.#config = config;
    this.#pieces = planPieces(totalFloats, numRanks, pieceFloats);
    this.#pieceAt = new Map(this.#pieces.flat().map((piece) => [piece.offset, piece]));
    this.#topology = new Topology(hosts, slotOwners);
    this.#sums = new Map(
      [...this.#pieceAt.values()]
        .filter((piece) => this.#topology.leaderFor(piece, rank) === rank)
        .map((piece) => [piece.offset, new PieceSum(piece, slotOwners.length, piece.owner === rank)]),
    );
    this.#awaited = new Set(this.#pieceAt.keys());
  }

  get identity(): AttemptId {
    return this.#config.identity;
  }

  get phase(): AllReducePhase {
    return this.#phase;
  }

  /** The first piece whose result is not here, and the rank it comes from (perhaps this one); null when all are. */
  get awaited(): { readonly piece: Piece; readonly from: number } | null {
    const [offset] = this.#awaited;
    if (offset === undefined) return null;
    const piece = this.#pieceAt.get(offset)!;
    return { piece, from: this.#topology.sourceOf(piece, this.#config.rank) };
  }

  /** Takes one event; the effects are to be run in order. */
  step(event: AllReduceEvent): AllReduceEffect[] {
    const effects: AllReduceEffect[] = [];
    switch (event.type) {
      case 'started':
        this.#start(effects);
        break;
      case 'fragmentArrived':
        this.#arrive(event, effects, () => this.#takeFragment(event, effects));
        break;
      case 'reducedArrived':
        this.#arrive(event, effects, () => this.#takeReduced(event, effects));
        break;
      case 'aborted':
        this.#abort(effects);
        break;
      default:
        unreachable(event);
    }
    return effects;
  }

  #start(effects: AllReduceEffect[]): void {
    // An abort may overtake the start.
    if (this.#phase === 'aborted') return;
    assert(this.#phase === 'waiting', `an attempt is started once, not while ${this.#phase}`);
    this.#phase = 'reducing';
    const { rank, slotOwners } = this.#config;
    const ownSlots = slotOwners.flatMap((owner, slot) => (owner === rank ? [slot] : []));
    const fragments = maximalSubtrees(slotOwners.length, ownSlots);
    this.#sendFragments(fragments, effects);
    for (const [offset, sum] of this.#sums) {
      const piece = this.#pieceAt.get(offset)!;
      for (const node of fragments) {
        if (this.#topology.receiverOf(node, piece, rank) !== rank) continue;
        const added = sum.add(node, { kind: 'local', node }, effects);
        assert(!isError(added), isError(added) ? added.message : '');
        this.#passOn(added, piece, sum, effects);
      }
    }
    this.#finishIfDone(effects);
  }

  /** Round by round one piece of every owner, the next rank first, so that no owner is sent to by all at once. */
  #sendFragments(fragments: readonly SlotRange[], effects: AllReduceEffect[]): void {
    const { rank } = this.#config;
    const rounds = Math.max(...this.#pieces.map((pieces) => pieces.length));
    for (let round = 0; round < rounds; round += 1) {
      for (const owner of this.#peers()) {
        const piece = this.#pieces[owner]![round];
        if (piece === undefined) continue;
        for (const node of fragments) {
          const to = this.#topology.receiverOf(node, piece, rank);
          if (to === rank) continue;
          effects.push({ type: 'sendFragment', to, node, from: { kind: 'local', node }, ...rangeOf(piece) });
        }
      }
    }
  }

  /** A sum has grown to this node: does with it what is due. */
  #passOn(node: SlotRange, piece: Piece, sum: PieceSum, effects: AllReduceEffect[]): void {
    const { rank, slotOwners } = this.#config;
    if (piece.owner !== rank) {
      if (this.#topology.isWhole(node, rank)) sum.send(node, piece.owner, effects);
    } else if (node.count === slotOwners.length) {
      this.#awaited.delete(piece.offset);
      this.#publish(piece, effects);
    }
  }

  /** The other ranks, from the next one on and around. */
  #peers(): number[] {
    const { rank, numRanks } = this.#config;
    return Array.from({ length: numRanks - 1 }, (_, index) => (rank + 1 + index) % numRanks);
  }

  #arrive(event: ArrivalEvent, effects: AllReduceEffect[], take: () => Refusal | null): void {
    const refusal = this.#refuse(event) ?? take();
    if (refusal === null) {
      this.#finishIfDone(effects);
      return;
    }
    effects.push({ type: 'reject', from: event.from, ...refusal });
    effects.push({ type: 'release', frame: event.frame });
  }

  /** What is wrong with any arrival, of whichever kind. */
  #refuse({ from, offset, length }: ArrivalEvent): Refusal | null {
    const { rank, numRanks } = this.#config;
    if (this.#phase !== 'reducing') {
      return { kind: 'not-reducing', reason: `an arrival from rank ${from} while ${this.#phase}` };
    }
    if (!Number.isInteger(from) || from < 0 || from >= numRanks || from === rank) {
      return { kind: 'foreign-rank', reason: `rank ${from} is no peer of rank ${rank} among ${numRanks}` };
    }
    if (this.#pieceAt.get(offset)?.length !== length) {
      return { kind: 'unknown-piece', reason: `floats ${offset}+${length} are no piece of the vector` };
    }
    return null;
  }

  #takeFragment(
    event: Extract<ArrivalEvent, { type: 'fragmentArrived' }>,
    effects: AllReduceEffect[],
  ): Refusal | null {
    const { from, node, offset, frame } = event;
    const { rank, slotOwners } = this.#config;
    const piece = this.#pieceAt.get(offset)!;
    const sum = this.#sums.get(offset);
    const topology = this.#topology;
    const isBetweenHosts = !topology.isSameHost(from, rank);
    if (sum === undefined || (isBetweenHosts && piece.owner !== rank)) {
      const reason = `the piece at float ${offset} is rank ${piece.owner}'s to reduce, not rank ${rank}'s`;
      return { kind: 'unknown-piece', reason };
    }
    const speaksForHost = isBetweenHosts && topology.leaderFor(piece, from) === from;
    const isTheirs = (owner: number) => owner === from || (speaksForHost && topology.isSameHost(owner, from));
    const nodeOwners = slotOwners.slice(node.first, node.first + node.count);
    const foreign = nodeOwners.findIndex((owner) => !isTheirs(owner));
    if (foreign !== -1) {
      const reason = `slot ${node.first + foreign} is rank ${nodeOwners[foreign]}'s, but rank ${from} sent it`;
      return { kind: 'foreign-slots', reason };
    }
    const added = sum.add(node, { kind: 'frame', frame }, effects);
    if (isError(added)) {
      return { kind: added.kind, reason: `${added.message}, at float ${offset} from rank ${from}` };
    }
    this.#passOn(added, piece, sum, effects);
    return null;
  }

  #takeReduced(event: ArrivalEvent, effects: AllReduceEffect[]): Refusal | null {
    const { from, offset, length, frame } = event;
    const piece = this.#pieceAt.get(offset)!;
    const source = this.#topology.sourceOf(piece, this.#config.rank);
    if (source !== from) {
      const reason = `the piece at float ${offset} comes from rank ${source}, not from rank ${from}`;
      return { kind: 'unknown-piece', reason };
    }
    if (!this.#awaited.delete(offset)) {
      return { kind: 'overlap', reason: `the piece at float ${offset} came twice from rank ${from}` };
    }
    effects.push({ type: 'storeReduced', offset, length, from: { kind: 'frame', frame } });
    effects.push({ type: 'release', frame });
    this.#publish(piece, effects);
    return null;
  }

  /** Sends a finished piece to all who are to have it from this rank. */
  #publish(piece: Piece, effects: AllReduceEffect[]): void {
    const { rank } = this.#config;
    for (const to of this.#peers()) {
      if (this.#topology.sourceOf(piece, to) !== rank) continue;
      effects.push({ type: 'sendReduced', to, ...rangeOf(piece) });
    }
  }

  #finishIfDone(effects: AllReduceEffect[]): void {
    if (this.#awaited.size > 0) return;
    this.#phase = 'finished';
    effects.push({ type: 'finished' });
  }

  #abort(effects: AllReduceEffect[]): void {
    // What is finished stays so: the reduced vector is whole, and no frame is held.
    if (this.#phase === 'finished') return;
    this.#phase = 'aborted';
    for (const sum of this.#sums.values()) sum.abandon(effects);
  }
}

function isError(added: SlotRange | CoverageError): added is CoverageError {
  return 'kind' in added;
}

function rangeOf({ offset, length }: VectorRange): VectorRange {
  return { offset, length };
}
