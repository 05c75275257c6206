/**
 * All-reduce of one float32 vector over N processes: Lockstep's reduction and gloo take turns, both
 * fleets standing by. An iteration's time is that of its slowest rank, from its start to its end.
 *
 * Lockstep's includes what a step needs of it: a CRC of each frame, the cover check, and digest and
 * norm of the result. gloo's is the bare sum.
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
const peerAnswerSchema = z.object({ milliseconds: z.array(z.number()) });

export interface AllReduceOptions {
  readonly numRanks: number;
  /** Sizes of the vector, in bytes. */
  readonly sizes: readonly number[];
  readonly rounds: number;
  readonly iterationsPerRound: number;
  /** Iterations at the start of each round that are not counted. */
  readonly warmup: number;
}

/** Milliseconds of the slowest rank. */
export interface AllReduceTimes {
  readonly iterations: number;
  readonly p50: number;
  readonly p99: number;
}

export interface AllReduceFigures {
  readonly numRanks: number;
  readonly bytes: number;
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
  const ours = await RankFleet.start(numRanks);
  const theirs = torch.available
    ? new TorchFleet({ torch, script: 'all_reduce.py', numRanks, folder, args: [] })
    : null;
  try {
    const figures: AllReduceFigures[] = [];
    for (const bytes of sizes) {
      note(`all-reduce of ${bytes / 1e6} MB over ${numRanks} processes`);
      const floats = bytes / 4;
      const oursMs: number[] = [];
      const theirsMs: number[] = [];
      for (let round = 0; round < rounds; round += 1) {
        oursMs.push(...(await ours.measure(floats, warmup, iterations)));
        if (theirs === null || skipped !== null) continue;
        try {
          const answers = await theirs.ask({ floats, warmup, iterations }, peerAnswerSchema);
          theirsMs.push(...slowestOf(answers.map(({ milliseconds }) => milliseconds)));
        } catch (error) {
          skipped = messageOf(error);
        }
      }
      const lockstep = timesOf(oursMs);
      const peer = skipped === null ? timesOf(theirsMs) : null;
      const ratio = peer === null ? null : peer.p50 / lockstep.p50;
      figures.push({ numRanks, bytes, lockstep, peer, ratio, skipped });
    }
    return figures;
  } finally {
    ours.close();
    await theirs?.close();
  }
}

function timesOf(milliseconds: readonly number[]): AllReduceTimes {
  return {
    iterations: milliseconds.length,
    p50: quantile(milliseconds, 0.5),
    p99: quantile(milliseconds, 0.99),
  };
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

  static async start(numRanks: number): Promise<RankFleet> {
    const ranks = Array.from({ length: numRanks }, () => fork(RANK_PROGRAM));
    try {
      const members: MemberAddress[] = [];
      for (const [rank, answer] of (await Promise.all(ranks.map(answerOf))).entries()) {
        assert(answer.type === 'bound', `a rank begins with its address, not with ${answer.type}`);
        members.push({ incarnation: `rank-${rank}`, worker: `rank-${rank}`, peerEndpoint: answer.endpoint });
      }
      for (const [rank, child] of ranks.entries()) tell(child, { type: 'join', rank, members });
      return new RankFleet(ranks);
    } catch (error) {
      for (const child of ranks) child.kill();
      throw error;
    }
  }

  private constructor(ranks: readonly ChildProcess[]) {
    this.#ranks = ranks;
  }

  /** Milliseconds of each counted iteration. Rejects if a sum is wrong or ranks disagree. */
  async measure(floats: number, warmup: number, iterations: number): Promise<number[]> {
    const slowest: number[] = [];
    for (let iteration = 0; iteration < warmup + iterations; iteration += 1) {
      const milliseconds = await this.#reduce(floats);
      if (iteration >= warmup) slowest.push(milliseconds);
    }
    return slowest;
  }

  async #reduce(floats: number): Promise<number> {
    this.#step += 1;
    const step = this.#step;
    const answers = this.#ranks.map(answerOf);
    for (const child of this.#ranks) tell(child, { type: 'reduce', step, floats });
    const results = (await Promise.all(answers)).map((answer) => {
      assert(answer.type === 'reduced', `a rank ends with its time, not with ${answer.type}`);
      return answer;
    });
    if (new Set(results.map(({ digest }) => digest)).size > 1) {
      throw new Error(`all-reduce ${step}: the ranks hold different sums`);
    }
    return Math.max(...results.map(({ milliseconds }) => milliseconds));
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
