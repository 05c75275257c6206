/**
 * All-reduce of one float32 vector over N processes: Lockstep's reduction and gloo take turns, both
 * fleets standing by. An iteration's time is that of its slowest rank, from its start to its end.
 *
 * Lockstep's includes what a step needs of it: the cover check, and digest and norm of the result; through
 * sockets also a digest of each frame. gloo's is the bare sum.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { assert, messageOf, quantile } from '../base/index.ts';
import type { MemberAddress } from '../protocol/index.ts';
import type { FromRank, ToRank } from './all-reduce-rank.ts';
import type { TorchEnvironment } from './torch-environment.ts';
import { TorchFleet } from './torch-fleet.ts';

const RANK_PROGRAM = fileURLToPath(new URL('./all-reduce-rank.js', import.meta.url));
/** Enough for an order to reach every rank. */
const START_AHEAD_NS = 1_500_000n;
const peerAnswerSchema = z.object({
  milliseconds: z.array(z.number()),
  cpuMilliseconds: z.array(z.number()),
});

/** One iteration: of its slowest rank, and processor time of all ranks together. */
interface Iteration {
  readonly milliseconds: number;
  readonly cpuMilliseconds: number;
}

/**
 * How gradients travel: through memory that the processes share, or through TCP sockets as between hosts.
 * In bfloat16 half the bytes do, of sums that are rounded to it. The last is what sockets allow at best: the
 * same frames, with nothing added up or digested.
 */
const TRANSPORTS = ['memory', 'sockets', 'sockets, bfloat16', 'sockets, no sum'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export interface AllReduceOptions {
  readonly numRanks: number;
  /** Sizes of the vector, in bytes. */
  readonly sizes: readonly number[];
  readonly rounds: number;
  readonly iterationsPerRound: number;
  /** Iterations at the start of each round that are not counted. */
  readonly warmup: number;
}

export interface AllReduceTimes {
  readonly iterations: number;
  /** Milliseconds of the slowest rank. */
  readonly p50: number;
  readonly p99: number;
  /** Processor time of all ranks together, milliseconds: what other load on the machine changes least. */
  readonly cpuP50: number;
  readonly cpuMin: number;
}

export interface AllReduceFigures {
  readonly numRanks: number;
  readonly bytes: number;
  readonly transport: Transport;
  readonly lockstep: AllReduceTimes;
  readonly peer: AllReduceTimes | null;
  /** The peer's p50 over Lockstep's. */
  readonly ratio: number | null;
  readonly skipped: string | null;
}

export async function compareAllReduce(
  options: AllReduceOptions,
  context: { readonly torch: TorchEnvironment; readonly folder: string; note(line: string): void },
): Promise<AllReduceFigures[]> {
  const { torch, folder, note } = context;
  const { numRanks, sizes, rounds, iterationsPerRound: iterations, warmup } = options;
  let skipped = torch.available ? null : torch.reason;
  const ours = new Map<Transport, RankFleet>();
  const theirs = torch.available
    ? new TorchFleet({ torch, script: 'all_reduce.py', numRanks, folder, args: [] })
    : null;
  try {
    for (const transport of TRANSPORTS) ours.set(transport, await RankFleet.start(numRanks, transport));
    const figures: AllReduceFigures[] = [];
    for (const bytes of sizes) {
      note(`all-reduce of ${bytes / 1e6} MB over ${numRanks} processes`);
      const floats = bytes / 4;
      const oursMs = new Map<Transport, Iteration[]>(TRANSPORTS.map((transport) => [transport, []]));
      const theirsMs: Iteration[] = [];
      for (let round = 0; round < rounds; round += 1) {
        for (const [transport, fleet] of ours) {
          oursMs.get(transport)?.push(...(await fleet.measure(floats, warmup, iterations)));
        }
        if (theirs === null || skipped !== null) continue;
        try {
          const answers = await theirs.ask({ floats, warmup, iterations }, peerAnswerSchema);
          theirsMs.push(...iterationsOf(answers));
        } catch (error) {
          skipped = messageOf(error);
        }
      }
      const peer = skipped === null ? timesOf(theirsMs) : null;
      for (const [transport, measured] of oursMs) {
        const lockstep = timesOf(measured);
        const ratio = peer === null ? null : peer.p50 / lockstep.p50;
        figures.push({ numRanks, bytes, transport, lockstep, peer, ratio, skipped });
      }
    }
    return figures;
  } finally {
    for (const fleet of ours.values()) fleet.close();
    await theirs?.close();
  }
}

function timesOf(iterations: readonly Iteration[]): AllReduceTimes {
  const milliseconds = iterations.map((iteration) => iteration.milliseconds);
  const cpuMilliseconds = iterations.map((iteration) => iteration.cpuMilliseconds);
  return {
    iterations: iterations.length,
    p50: quantile(milliseconds, 0.5),
    p99: quantile(milliseconds, 0.99),
    cpuP50: quantile(cpuMilliseconds, 0.5),
    cpuMin: quantile(cpuMilliseconds, 0),
  };
}

function iterationsOf(answers: readonly z.infer<typeof peerAnswerSchema>[]): Iteration[] {
  const slowest = slowestOf(answers.map(({ milliseconds }) => milliseconds));
  return slowest.map((milliseconds, iteration) => ({
    milliseconds,
    cpuMilliseconds: answers.reduce((sum, answer) => sum + answer.cpuMilliseconds[iteration]!, 0),
  }));
}

/** The longest time of each iteration; `timesByRank[rank][iteration]`. */
export function slowestOf(timesByRank: readonly (readonly number[])[]): number[] {
  const [first = []] = timesByRank;
  return first.map((_, iteration) => Math.max(...timesByRank.map((times) => times[iteration]!)));
}

/** Lockstep's ranks: processes of all-reduce-rank.ts. */
class RankFleet {
  readonly #ranks: readonly ChildProcess[];
  #step = 0;

  static async start(numRanks: number, transport: Transport): Promise<RankFleet> {
    const sums = transport !== 'sockets, no sum';
    const precision = transport === 'sockets, bfloat16' ? 'bfloat16' : 'float32';
    const ranks = Array.from({ length: numRanks }, () => fork(RANK_PROGRAM));
    try {
      const members: MemberAddress[] = [];
      for (const [rank, answer] of (await Promise.all(ranks.map(answerOf))).entries()) {
        assert(answer.type === 'bound', `a rank begins with its address, not with ${answer.type}`);
        const { peerEndpoint, peerMemory } = answer.address;
        const name = { incarnation: `rank-${rank}`, worker: `rank-${rank}` };
        members.push({ ...name, peerEndpoint, peerMemory: transport === 'memory' ? peerMemory : null });
      }
      for (const [rank, child] of ranks.entries())
        tell(child, { type: 'join', rank, members, sums, precision });
      return new RankFleet(ranks);
    } catch (error) {
      for (const child of ranks) child.kill();
      throw error;
    }
  }

  private constructor(ranks: readonly ChildProcess[]) {
    this.#ranks = ranks;
  }

  /** Each counted iteration. Rejects if a sum is wrong or ranks disagree. */
  async measure(floats: number, warmup: number, iterations: number): Promise<Iteration[]> {
    const measured: Iteration[] = [];
    for (let iteration = 0; iteration < warmup + iterations; iteration += 1) {
      const one = await this.#reduce(floats);
      if (iteration >= warmup) measured.push(one);
    }
    return measured;
  }

  async #reduce(floats: number): Promise<Iteration> {
    this.#step += 1;
    const step = this.#step;
    const answers = this.#ranks.map(answerOf);
    const startAt = String(process.hrtime.bigint() + START_AHEAD_NS);
    for (const child of this.#ranks) tell(child, { type: 'reduce', step, floats, startAt });
    const results = (await Promise.all(answers)).map((answer) => {
      assert(answer.type === 'reduced', `a rank ends with its time, not with ${answer.type}`);
      return answer;
    });
    if (new Set(results.map(({ digest }) => digest)).size > 1) {
      throw new Error(`all-reduce ${step}: the ranks hold different sums`);
    }
    return {
      milliseconds: Math.max(...results.map(({ milliseconds }) => milliseconds)),
      cpuMilliseconds: results.reduce((sum, { cpuMilliseconds }) => sum + cpuMilliseconds, 0),
    };
  }

  close(): void {
    for (const child of this.#ranks) child.kill();
  }
}

function tell(child: ChildProcess, message: ToRank): void {
  child.send(message);
}

/** What a rank says next. Rejects when it failed or ended. */
async function answerOf(child: ChildProcess): Promise<Exclude<FromRank, { type: 'failed' }>> {
  const gone = new AbortController();
  const onExit = () => gone.abort();
  child.once('exit', onExit);
  try {
    // Sent by all-reduce-rank.ts of this very version.
    const [answer] = (await once(child, 'message', { signal: gone.signal })) as [FromRank];
    if (answer.type === 'failed') throw new Error(`all-reduce: ${answer.reason}`);
    return answer;
  } catch (error) {
    if (gone.signal.aborted) throw new Error('all-reduce: a rank ended before its time');
    throw error;
  } finally {
    child.off('exit', onExit);
  }
}
