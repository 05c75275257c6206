/**
 * A model of a step's time from measured constants, to say what more workers would bring on networks
 * that are not here. Pure. Times in milliseconds, sizes in bytes, rates in bytes per millisecond.
 *
 *   step = ceil(M / N) * slot + max(wire, processor) + hops * latency + control + update
 *
 * The exchange is Patarasuk & Yuan's bound (2 (N-1)/N S through each host's link) plus what their bound
 * leaves out: a fixed cost for each message, of which a direct exchange has 2 (N-1) per rank at least,
 * and the coordinator's own messages.
 */

/** Measured on one machine. */
export interface Constants {
  /** Forward and backward of one micro-batch, with its data. */
  readonly slotMs: number;
  readonly microBatches: number;
  readonly numParameters: number;
  /** Through memory within a host, and through sockets between hosts. */
  readonly memory: TransportCost;
  readonly sockets: TransportCost;
  readonly pieceBytes: number;
  /** Votes, the record on disk, the commit's way back. */
  readonly commitMs: number;
  /** Processor time of the coordinator for one member: order to reduce, vote, commit. */
  readonly memberMs: number;
  /** AdamW, upload to the engine, digest. */
  readonly updateMs: number;
}

/** Processor time, both ends together. */
export interface TransportCost {
  readonly messageMs: number;
  /** For a byte that one rank sends and another takes in and adds up. */
  readonly byteMs: number;
}

/** Between hosts; within one, gradients go through memory. */
export interface Network {
  readonly name: string;
  readonly bytesPerMs: number;
  readonly latencyMs: number;
}

export interface Topology {
  readonly numWorkers: number;
  readonly workersPerHost: number;
  /**
   * Whether workers of a host first add up among themselves, and one exchange between hosts follows; else
   * every worker exchanges with every other.
   */
  readonly twoLevels: boolean;
}

export interface StepTime {
  readonly compute: number;
  readonly exchange: number;
  readonly control: number;
  readonly update: number;
  readonly total: number;
  /** Gradient messages that one worker sends. */
  readonly messages: number;
}

/** A slot's rank in the order to reduce, which goes to each member: MessagePack's most for 65,536 ranks. */
const SLOT_OWNER_BYTES = 3;

export function stepTime(constants: Constants, network: Network, topology: Topology): StepTime {
  const { slotMs, microBatches, commitMs, memberMs, updateMs } = constants;
  const { numWorkers, workersPerHost, twoLevels } = topology;
  const vectorBytes = constants.numParameters * 4;
  const numHosts = Math.ceil(numWorkers / workersPerHost);
  const compute = Math.ceil(microBatches / numWorkers) * slotMs;
  const stages = twoLevels
    ? [
        exchange(constants, network, {
          ranks: workersPerHost,
          bytes: vectorBytes,
          perHost: null,
          // Each rank's shard is a piece of its own.
          shards: numWorkers,
        }),
        exchange(constants, network, {
          ranks: numHosts,
          // Each worker of a host takes its share of the vector to its like on other hosts.
          bytes: vectorBytes / workersPerHost,
          perHost: workersPerHost,
          shards: numHosts,
        }),
      ]
    : [
        exchange(constants, network, {
          ranks: numWorkers,
          bytes: vectorBytes,
          perHost: numHosts === 1 ? null : workersPerHost,
          shards: numWorkers,
        }),
      ];
  const ordersMs = numHosts === 1 ? 0 : (numWorkers * microBatches * SLOT_OWNER_BYTES) / network.bytesPerMs;
  const control = commitMs + numWorkers * memberMs + ordersMs + 2 * network.latencyMs;
  const exchangeMs = stages.reduce((sum, stage) => sum + stage.ms, 0);
  return {
    compute,
    exchange: exchangeMs,
    control,
    update: updateMs,
    total: compute + exchangeMs + control + updateMs,
    messages: stages.reduce((sum, stage) => sum + stage.messages, 0),
  };
}

/**
 * A reduce-scatter and an all-gather among `ranks`, of which `perHost` share a link (null for none between hosts), of a
 * vector cut into so many shards.
 */
function exchange(
  { memory, sockets, pieceBytes }: Constants,
  network: Network,
  { ranks, bytes, perHost, shards }: { ranks: number; bytes: number; perHost: number | null; shards: number },
): { ms: number; messages: number } {
  if (ranks <= 1) return { ms: 0, messages: 0 };
  const sentBytes = (2 * (ranks - 1) * bytes) / ranks;
  const messages = ((2 * (ranks - 1)) / ranks) * shards * Math.ceil(bytes / shards / pieceBytes);
  const { messageMs, byteMs } = perHost === null ? memory : sockets;
  const processorMs = messages * messageMs + sentBytes * byteMs;
  if (perHost === null) return { ms: processorMs, messages };
  // A flat exchange counts what stays within a host as if it left; that is little among many hosts.
  const wireMs = (sentBytes * perHost) / network.bytesPerMs;
  return { ms: Math.max(wireMs, processorMs) + 2 * network.latencyMs, messages };
}

/** Work done per time, as a multiple of one worker's. */
export function speedup(constants: Constants, network: Network, topology: Topology): number {
  const alone = stepTime(constants, network, { numWorkers: 1, workersPerHost: 1, twoLevels: false });
  return alone.total / stepTime(constants, network, topology).total;
}
