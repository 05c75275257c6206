/** Requests to the coordinator's HTTP side: what they carry, how long they may take, what their failure is called. */
import { LockstepError, messageOf } from '../base/index.ts';

export interface TransferTarget {
  readonly httpUrl: string;
  readonly run: string;
  /** How long one piece may take: a transfer that hangs must not hold up everyone who waits for it. */
  readonly pieceLimitMs: number;
  /** Bearer key, derived from the cluster's token. */
  readonly key: Uint8Array;
}

/** The address of `path` within the run. */
export function urlOf({ httpUrl, run }: TransferTarget, path: string): string {
  return `${httpUrl}/runs/${run}/${path}`;
}

/** Whatever the coordinator answers. Throws COORDINATOR_LOST when it does not. */
export async function request(target: TransferTarget, path: string, init: RequestInit): Promise<Response> {
  const url = urlOf(target, path);
  const limit = AbortSignal.timeout(target.pieceLimitMs);
  try {
    return await fetch(url, {
      ...init,
      signal: init.signal == null ? limit : AbortSignal.any([limit, init.signal]),
      headers: { ...init.headers, authorization: `Bearer ${Buffer.from(target.key).toString('hex')}` },
    });
  } catch (error) {
    throw new LockstepError('COORDINATOR_LOST', `${url} does not answer: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The URL with another host and port; what else it holds, as a password, stays. */
export function rerouted(url: string, via: string | null): string {
  if (via === null) return url;
  const changed = new URL(url);
  changed.host = via;
  return changed.href;
}
