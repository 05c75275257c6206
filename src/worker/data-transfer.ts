/**
 * The run's data set from the coordinator, block by block, for a worker without the files; data-routes.ts in the
 * coordinator's room is the other end. A coordinator that does not answer may be about to be started again, so a
 * request is repeated until the time that workers wait for it is over.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { ERROR_CODES, type ErrorCode, LockstepError, messageOf } from '../base/index.ts';
import type { BlockSource } from '../data/index.ts';
import { SEAL_HEADER, sealedDigests } from '../protocol/index.ts';
import { request, type TransferTarget, urlOf } from './coordinator-http.ts';

const RETRY_DELAY_MS = 500;

const errorSchema = z.object({ error: z.string(), code: z.string().optional() });

export class CoordinatorBlocks implements BlockSource {
  readonly #target: TransferTarget;
  readonly #signal: AbortSignal;

  /** What is under way when `signal` aborts is given up. */
  constructor(target: TransferTarget, signal: AbortSignal) {
    this.#target = target;
    this.#signal = signal;
  }

  /** Throws DATA_CORRUPT, DATA_MISSING or CONFIG_MISMATCH as the coordinator found it, COORDINATOR_LOST when it is gone. */
  async digests(file: string): Promise<Uint8Array> {
    const path = `data/${file}/digests`;
    const response = await this.#get(path);
    const digests = new Uint8Array(await response.arrayBuffer());
    const given = Buffer.from(response.headers.get(SEAL_HEADER) ?? '', 'hex');
    const { run, key } = this.#target;
    const seal = createHmac('sha256', key).update(sealedDigests(run, file)).update(digests).digest();
    if (given.length === seal.length && timingSafeEqual(given, seal)) return digests;
    throw new LockstepError(
      'CONNECTION_REFUSED',
      `${urlOf(this.#target, path)}: the answer is not sealed with this run's key: give both sides the same LOCKSTEP_TOKEN`,
    );
  }

  async block(file: string, index: number): Promise<Uint8Array> {
    const response = await this.#get(`data/${file}/blocks/${index}`);
    return new Uint8Array(await response.arrayBuffer());
  }

  async #get(path: string): Promise<Response> {
    const giveUpMs = performance.now() + this.#target.pieceLimitMs;
    for (;;) {
      try {
        const response = await request(this.#target, path, { signal: this.#signal });
        if (response.status === 200) return response;
        // 202: a file is being read through, which may take minutes and is no silence.
        if (response.status !== 202) throw await this.#refusal(path, response);
      } catch (error) {
        const isSilence = error instanceof LockstepError && error.code === 'COORDINATOR_LOST';
        if (!isSilence || this.#signal.aborted || performance.now() > giveUpMs) throw error;
      }
      await delay(RETRY_DELAY_MS, undefined, { signal: this.#signal });
    }
  }

  /** The coordinator's own words under its own code. */
  async #refusal(path: string, response: Response): Promise<LockstepError> {
    const text = await response.text();
    const url = urlOf(this.#target, path);
    const parsed = errorSchema.safeParse(parsedJson(text));
    if (!parsed.success)
      return new LockstepError('CONNECTION_REFUSED', `${url}: ${response.status} ${messageOf(text)}`);
    const { code, error } = parsed.data;
    const known = code !== undefined && code in ERROR_CODES ? (code as ErrorCode) : 'CONNECTION_REFUSED';
    return new LockstepError(known, `${url}: ${messageOf(error)}`);
  }
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
