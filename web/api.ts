/**
 * Requests to the server this page came from. Answers are trusted by type: both ends are built from one contract. What fails
 * is an ApiError with the server's own sentence; status 0 stands for no answer at all.
 */
import { CSRF_HEADER, type ErrorView, type SessionRequest, type SessionView } from './contract.ts';

/** How long an answer may take before the server counts as gone; generating and verifying have their own. */
const TIMEOUT_MS = 8_000;
export const LONG_TIMEOUT_MS = 600_000;

export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

let csrf: string | null = null;

/** Asks who we are, and keeps what actions need. */
export async function openSession(): Promise<SessionView> {
  const session = await get<SessionView>('/api/session');
  csrf = session.csrf;
  return session;
}

/** Gives the token in exchange for a cookie; false when it is not the right one. */
export async function submitToken(token: string): Promise<boolean> {
  const body: SessionRequest = { token };
  try {
    await request('/api/session', { method: 'POST', body: JSON.stringify(body) }, TIMEOUT_MS);
    return true;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 400)) return false;
    throw error;
  }
}

export async function get<Answer>(path: string, timeoutMs = TIMEOUT_MS): Promise<Answer> {
  const response = await request(path, {}, timeoutMs);
  return (await response.json()) as Answer;
}

export async function post<Answer>(path: string, body: unknown, timeoutMs = TIMEOUT_MS): Promise<Answer> {
  const response = await request(path, { method: 'POST', body: JSON.stringify(body) }, timeoutMs);
  return (await response.json()) as Answer;
}

async function request(path: string, options: RequestInit, timeoutMs: number): Promise<Response> {
  const headers = new Headers({ accept: 'application/json' });
  if (options.body !== undefined) headers.set('content-type', 'application/json');
  if (csrf !== null) headers.set(CSRF_HEADER, csrf);
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers, signal: AbortSignal.timeout(timeoutMs) });
  } catch {
    throw new ApiError(0, 'The coordinator does not answer.');
  }
  if (response.ok) return response;
  const answer = (await response.json().catch(() => null)) as ErrorView | null;
  throw new ApiError(response.status, answer?.error ?? `The server answered with status ${response.status}.`);
}

/** The sentence to show for whatever was caught. */
export function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
