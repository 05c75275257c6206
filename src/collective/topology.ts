/**
 * Two levels: within a host, where ranks read each other's memory, and between hosts, where bytes travel.
 *
 * For each piece a host has one rank that speaks for it, its leader. Fragments of the host's ranks that are
 * parts of one node meet at the leader, which sends their sum to the piece's owner; a finished piece comes to
 * the leader, which passes it on. So a host sends and receives each piece once, however many ranks it has
 * (hierarchical all-reduce with as many leaders as ranks: Bayatpour et al., SC 2017). On the owner's own
 * host the owner leads. The tree gives the same bits by whichever way fragments meet.
 *
 * Where each rank is alone on its host, or all are on one, what is left is the direct exchange.
 */
import type { SlotRange } from '../base/index.ts';
import { maximalSubtrees } from './reduction-tree.ts';
import type { Piece } from './shard-plan.ts';

export class Topology {
  readonly #hosts: readonly number[];
  readonly #slotOwners: readonly number[];
  /** By host, in order. */
  readonly #ranks = new Map<number, number[]>();
  readonly #nodes = new Map<number, readonly SlotRange[]>();

  /** `hosts`: by rank, equal for ranks of one host. */
  constructor(hosts: readonly number[], slotOwners: readonly number[]) {
    this.#hosts = hosts;
    this.#slotOwners = slotOwners;
    hosts.forEach((host, rank) => {
      const ranks = this.#ranks.get(host);
      if (ranks === undefined) this.#ranks.set(host, [rank]);
      else ranks.push(rank);
    });
  }

  isSameHost(a: number, b: number): boolean {
    return this.#hosts[a] === this.#hosts[b];
  }

  /** The rank that speaks for the host of `rank` about a piece. Neighbouring pieces have different ones. */
  leaderFor({ owner, index }: Piece, rank: number): number {
    if (this.isSameHost(owner, rank)) return owner;
    const ranks = this.#ranks.get(this.#hosts[rank]!)!;
    return ranks[(owner + index) % ranks.length]!;
  }

  /** Where `rank` sends its fragment `node` of a piece: to itself if it is the one that adds it up. */
  receiverOf(node: SlotRange, piece: Piece, rank: number): number {
    return this.isWhole(node, rank) ? piece.owner : this.leaderFor(piece, rank);
  }

  /** From whom `rank` gets a finished piece. */
  sourceOf(piece: Piece, rank: number): number {
    const leader = this.leaderFor(piece, rank);
    return leader === rank ? piece.owner : leader;
  }

  /** Whether no other slots of the rank's host could be added to this node. */
  isWhole(node: SlotRange, rank: number): boolean {
    if (this.#ranks.get(this.#hosts[rank]!)!.length === 1) return true;
    return this.#nodesOf(this.#hosts[rank]!).some(
      ({ first, count }) => first === node.first && count === node.count,
    );
  }

  #nodesOf(host: number): readonly SlotRange[] {
    let nodes = this.#nodes.get(host);
    if (nodes === undefined) {
      const slots = this.#slotOwners.flatMap((owner, slot) => (this.#hosts[owner] === host ? [slot] : []));
      nodes = maximalSubtrees(this.#slotOwners.length, slots);
      this.#nodes.set(host, nodes);
    }
    return nodes;
  }
}
