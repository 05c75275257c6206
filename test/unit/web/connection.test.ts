/** The page's connection: it never gives up, waits no longer than three seconds, and notices a server that only hangs. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Connection,
  type ConnectionEvent,
  QUIET_LIMIT_MS,
  transition,
} from '../../../web/connection.ts';

const START: Connection = { phase: 'connecting', sinceMs: 0, failures: 0 };

/** Runs events at their times; the state at the end and every effect. */
function drive(events: readonly (readonly [ConnectionEvent['type'], number])[]) {
  let state = START;
  const effects: string[] = [];
  for (const [type, nowMs] of events) {
    const result = transition(state, { type, nowMs });
    state = result.state;
    if (result.effect !== null) effects.push(`${nowMs} ${result.effect}`);
  }
  return { state, effects };
}

describe('a connection', () => {
  it('that is lost is tried again after half a second, then later and later, up to three', () => {
    const { effects } = drive([
      ...([
        ['started', 0],
        ['heard', 10],
        ['failed', 1000],
      ] as const),
      ...([
        ['tick', 1499],
        ['tick', 1500],
        ['failed', 1600],
        ['tick', 2600],
        ['failed', 2700],
      ] as const),
      ...([
        ['tick', 4700],
        ['failed', 4800],
        ['tick', 7800],
        ['failed', 7900],
        ['tick', 10_900],
      ] as const),
    ]);
    expect(effects.filter((effect) => effect.endsWith(' connect'))).toEqual(
      [0, 1500, 2600, 4700, 7800, 10_900].map((time) => `${time} connect`),
    );
  });

  it('remembers when it was heard last, however often it fails', () => {
    const { state } = drive([
      ...([
        ['started', 0],
        ['heard', 700],
        ['failed', 1000],
        ['tick', 1500],
        ['failed', 1600],
      ] as const),
    ]);
    expect(state).toMatchObject({ phase: 'lost', sinceMs: 700, failures: 2 });
  });

  it('on which nothing comes is checked once, and lost when the check fails', () => {
    const { effects, state } = drive([
      ...([
        ['started', 0],
        ['heard', 0],
        ['tick', QUIET_LIMIT_MS],
        ['tick', QUIET_LIMIT_MS + 500],
      ] as const),
      ['failed', QUIET_LIMIT_MS + 8000],
    ]);
    expect(effects).toEqual(['0 connect', `${QUIET_LIMIT_MS} check`, `${QUIET_LIMIT_MS + 8000} close`]);
    expect(state.phase).toBe('lost');
  });

  it('that wants a token is left alone until there is one', () => {
    const locked = drive([
      ['started', 0],
      ['locked', 5],
      ['tick', 60_000],
      ['failed', 60_001],
      ['heard', 60_002],
    ]);
    expect(locked.state.phase).toBe('locked');
    expect(locked.effects).toEqual(['0 connect', '5 close']);
    expect(transition(locked.state, { type: 'started', nowMs: 70_000 }).effect).toBe('connect');
  });

  it('is live only by what its own stream brings: a late answer to a check revives nothing', () => {
    const late = drive([
      ...([
        ['started', 0],
        ['heard', 0],
        ['tick', QUIET_LIMIT_MS],
        ['failed', QUIET_LIMIT_MS + 1],
        ['answered', QUIET_LIMIT_MS + 2],
      ] as const),
    ]);
    expect(late.state.phase).toBe('lost');
    const opening = drive([
      ...([
        ['started', 0],
        ['answered', 1],
      ] as const),
    ]);
    expect(opening.state.phase).toBe('connecting');
    const answered = drive([
      ...([
        ['started', 0],
        ['heard', 0],
        ['tick', QUIET_LIMIT_MS],
        ['answered', QUIET_LIMIT_MS + 5],
      ] as const),
    ]);
    expect(answered.state).toEqual({ phase: 'live', heardMs: QUIET_LIMIT_MS + 5, checking: false });
  });

  it('comes back within three seconds of the server, whatever happened before', () => {
    const happenings = fc.array(
      fc.tuple(
        fc.constantFrom<ConnectionEvent['type']>('heard', 'answered', 'failed', 'tick', 'retryRequested'),
        fc.integer({ min: 0, max: 5000 }),
      ),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(happenings, (steps) => {
        let nowMs = 0;
        let { state } = transition(START, { type: 'started', nowMs });
        for (const [type, waitMs] of steps) {
          nowMs += waitMs;
          ({ state } = transition(state, { type, nowMs }));
        }
        if (state.phase !== 'lost') return;
        expect(transition(state, { type: 'tick', nowMs: nowMs + 3000 }).effect).toBe('connect');
      }),
    );
  });
});
