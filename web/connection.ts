/**
 * Whether the page hears the coordinator, as a pure machine: it connects, loses the connection, waits a little longer each
 * time, and tries again for ever. A connection on which nothing came for a while is checked, since one that hangs (a frozen
 * process, a sleeping laptop) never reports an error of its own.
 */

export type Connection =
  | { readonly phase: 'connecting'; readonly sinceMs: number; readonly failures: number }
  | { readonly phase: 'live'; readonly heardMs: number; readonly checking: boolean }
  | {
      readonly phase: 'lost';
      /** When it was heard last, or first tried. */
      readonly sinceMs: number;
      readonly retryAtMs: number;
      readonly failures: number;
    }
  /** The server wants a token first; nothing is tried until it has one. */
  | { readonly phase: 'locked' };

export type ConnectionEvent = { readonly nowMs: number } & (
  | { readonly type: 'started' | 'failed' | 'locked' | 'tick' | 'retryRequested' }
  /** An event came on the open stream. */
  | { readonly type: 'heard' }
  /** A check was answered. Of the stream it says nothing once that is lost or is being opened anew. */
  | { readonly type: 'answered' }
);

/** `connect` closes what is open first; `check` asks the server for any answer, reported as `answered` or `failed`. */
export type ConnectionEffect = 'connect' | 'check' | 'close' | null;

export const QUIET_LIMIT_MS = 10_000;
/** Waits after the first, second, ... failure; the last one goes on. Short: the server is a machine nearby. */
const RETRY_MS = [500, 1_000, 2_000, 3_000] as const;

export function transition(
  state: Connection,
  { type, nowMs }: ConnectionEvent,
): { readonly state: Connection; readonly effect: ConnectionEffect } {
  switch (type) {
    case 'started':
      return { state: { phase: 'connecting', sinceMs: nowMs, failures: 0 }, effect: 'connect' };
    case 'locked':
      return { state: { phase: 'locked' }, effect: 'close' };
    case 'heard':
      if (state.phase === 'locked' || state.phase === 'lost') return { state, effect: null };
      return { state: { phase: 'live', heardMs: nowMs, checking: false }, effect: null };
    case 'answered':
      if (state.phase !== 'live') return { state, effect: null };
      return { state: { phase: 'live', heardMs: nowMs, checking: false }, effect: null };
    case 'failed':
      return fail(state, nowMs);
    case 'retryRequested':
      return state.phase === 'lost' ? reconnect(state) : { state, effect: null };
    case 'tick':
      if (state.phase === 'lost' && nowMs >= state.retryAtMs) return reconnect(state);
      if (state.phase === 'live' && !state.checking && nowMs - state.heardMs >= QUIET_LIMIT_MS) {
        return { state: { ...state, checking: true }, effect: 'check' };
      }
      return { state, effect: null };
  }
}

function reconnect({ sinceMs, failures }: Extract<Connection, { phase: 'lost' }>) {
  return { state: { phase: 'connecting', sinceMs, failures }, effect: 'connect' } as const;
}

function fail(state: Connection, nowMs: number): { state: Connection; effect: ConnectionEffect } {
  if (state.phase === 'locked' || state.phase === 'lost') return { state, effect: null };
  const failures = state.phase === 'live' ? 1 : state.failures + 1;
  const sinceMs = state.phase === 'live' ? state.heardMs : state.sinceMs;
  const waitMs = RETRY_MS[Math.min(failures, RETRY_MS.length) - 1]!;
  return { state: { phase: 'lost', sinceMs, retryAtMs: nowMs + waitMs, failures }, effect: 'close' };
}
