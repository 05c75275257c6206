/**
 * A group of PyTorch processes, one per rank, that do what the benchmark asks over their standard
 * input and answer over standard output, one JSON line each. They stay up between questions, so that
 * loading them is not measured and the two systems can take turns.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import type { AvailableTorch } from './torch-environment.ts';

/** bench/peers at the top of the repository, from src/bench and dist/bench alike. */
const PEERS = fileURLToPath(new URL('../../bench/peers/', import.meta.url));
const ANSWER_LIMIT_MS = 20 * 60_000;
const STDERR_KEPT = 4096;

export interface TorchFleetOptions {
  readonly torch: AvailableTorch;
  /** A file of bench/peers. */
  readonly script: string;
  readonly numRanks: number;
  /** Scratch folder; the ranks find each other by a file in it. */
  readonly folder: string;
  /** What the script is given beside its place in the group. */
  readonly args: readonly string[];
}

interface Rank {
  readonly child: ChildProcess;
  readonly answers: AsyncIterator<string>;
  stderr: string;
}

let numFleets = 0;

export class TorchFleet {
  readonly #ranks: readonly Rank[];

  constructor({ torch, script, numRanks, folder, args }: TorchFleetOptions) {
    numFleets += 1;
    const rendezvous = join(folder, `rendezvous-${numFleets}`);
    this.#ranks = Array.from({ length: numRanks }, (_, rank) =>
      launch(torch.python, [join(PEERS, script), ...args], {
        RANK: String(rank),
        WORLD_SIZE: String(numRanks),
        RENDEZVOUS_FILE: rendezvous,
        OMP_NUM_THREADS: '1',
        // No compiled leftovers beside the scripts.
        PYTHONDONTWRITEBYTECODE: '1',
        // Else gloo asks what address the host's name has, which may lead nowhere.
        GLOO_SOCKET_IFNAME: process.platform === 'darwin' ? 'lo0' : 'lo',
      }),
    );
  }

  /** Puts one question to all ranks; their answers in rank order. Rejects with one line. */
  async ask<Answer>(question: object, schema: z.ZodType<Answer>): Promise<Answer[]> {
    const line = `${JSON.stringify(question)}\n`;
    for (const { child } of this.#ranks) child.stdin?.write(line);
    const timer = setTimeout(() => this.#kill(), ANSWER_LIMIT_MS);
    try {
      return await Promise.all(this.#ranks.map((rank) => answerOf(rank, schema)));
    } catch (error) {
      this.#kill();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Idempotent; resolves when all processes have ended. */
  async close(): Promise<void> {
    for (const { child } of this.#ranks) child.stdin?.end();
    await Promise.all(this.#ranks.map(({ child }) => ended(child)));
  }

  #kill(): void {
    for (const { child } of this.#ranks) child.kill('SIGKILL');
  }
}

function launch(python: string, args: readonly string[], env: Record<string, string>): Rank {
  const child = spawn(python, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  // A rank that dies is found out by its missing answer.
  child.stdin.on('error', () => {});
  child.on('error', () => {});
  const rank: Rank = { child, answers: createInterface(child.stdout)[Symbol.asyncIterator](), stderr: '' };
  child.stderr.on('data', (chunk: Buffer) => {
    rank.stderr = (rank.stderr + chunk.toString()).slice(-STDERR_KEPT);
  });
  return rank;
}

async function answerOf<Answer>(rank: Rank, schema: z.ZodType<Answer>): Promise<Answer> {
  for (;;) {
    const { done, value } = await rank.answers.next();
    if (done === true) {
      await ended(rank.child);
      throw new Error(rank.stderr.trim().split('\n').at(-1) || 'a PyTorch process ended without a word');
    }
    // Some versions of torch announce gloo's connections on standard output too.
    if (value.startsWith('{')) return schema.parse(JSON.parse(value));
  }
}

function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null)
    return Promise.resolve();
  return new Promise((resolve) => child.once('close', () => resolve()));
}
