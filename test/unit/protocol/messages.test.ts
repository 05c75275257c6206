/** What the schemas let through: all types, all limits, nothing else. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  coordinatorMessageSchema,
  deriveKey,
  jobId,
  jobSchema,
  PROTOCOL_VERSION,
  seal,
  workerMessageSchema,
} from '../../../src/protocol/index.ts';
import { COORDINATOR_MESSAGES, job, WORKER_MESSAGES } from '../../support/message-fixtures.ts';

const KEY = deriveKey('token', 'frame');
const envelope = {
  protocol: PROTOCOL_VERSION,
  run: 'r',
  incarnation: 'i',
  generation: 0,
  step: 0,
  attempt: 0,
};
const prepared = {
  ...{ type: 'prepared', device: 'd', engineVersion: '1' },
  ...{ layout: [{ name: 'w', shape: [1] }], held: null },
};
const typesOf = (schema: { options: readonly { shape: { type: { value: string } } }[] }) =>
  schema.options.map(({ shape }) => shape.type.value).sort();

describe('messages', () => {
  test('an order to reduce takes three bytes a slot at most, however many members there are', () => {
    const slotOwners = Array.from({ length: 1024 }, (_, slot) => slot);
    const [reduce] = fc.sample(COORDINATOR_MESSAGES.reduce, 1);
    const bytesOf = (owners: number[]) => seal(KEY, { ...reduce, slotOwners: owners })[0].length;
    expect(bytesOf(slotOwners) - bytesOf([0])).toBeLessThanOrEqual(3 * 1024);
  });

  test('the fixtures know every type', () => {
    expect(Object.keys(WORKER_MESSAGES).sort()).toEqual(typesOf(workerMessageSchema));
    expect(Object.keys(COORDINATOR_MESSAGES).sort()).toEqual(typesOf(coordinatorMessageSchema));
  });

  test.each(['protocol', 'run', 'incarnation', 'generation', 'step', 'attempt', 'type'])(
    'need %s',
    (field) => {
      const { [field]: _left, ...rest } = { ...envelope, type: 'draining' } as Record<string, unknown>;
      expect(workerMessageSchema.safeParse(rest).success).toBe(false);
      expect(workerMessageSchema.safeParse({ ...envelope, type: 'draining' }).success).toBe(true);
    },
  );

  test.each([
    { type: 'computed', job: 'j', results: [], milliseconds: 1 },
    { type: 'computed', job: 'j', results: [{ slot: 0, tokens: 1, lossSum: Infinity }], milliseconds: 1 },
    { type: 'computed', job: 'j', results: [{ slot: -1, tokens: 1, lossSum: 1 }], milliseconds: 1 },
    { type: 'computed', job: 'j', results: [{ slot: 0, tokens: 1, lossSum: 1 }], milliseconds: -1 },
    { type: 'leased', job: 'j', first: 0, count: 0 },
    { type: 'vote', parametersDigest: 'A'.repeat(32), gradientDigest: 'a'.repeat(32), times: null },
    { type: 'vote', parametersDigest: 'a'.repeat(31), gradientDigest: 'a'.repeat(32), times: null },
    { ...prepared, layout: [] },
    { ...prepared, layout: [{ name: 'w', shape: [0] }] },
    { ...prepared, layout: [{ name: 'w', shape: [1, 1, 1, 1, 1] }] },
    { ...prepared, held: undefined },
    { ...prepared, held: { step: -1, parametersDigest: 'a'.repeat(32), pending: null } },
    { ...prepared, held: { step: 1, parametersDigest: 'a'.repeat(32), pending: { step: 2 } } },
    { type: 'uploaded' },
    { type: 'handedBack', job: 'j', first: -1 },
    { type: 'commit', tokens: 1, learningRate: 1 },
  ])('of a worker like %o are refused', (message) => {
    expect(workerMessageSchema.safeParse({ ...envelope, ...message }).success).toBe(false);
  });

  test('of a worker that is prepared are taken without what makes the others wrong', () => {
    expect(workerMessageSchema.safeParse({ ...envelope, ...prepared }).success).toBe(true);
  });

  test.each([
    { kind: 'checkpoint' },
    { kind: 'checkpoint', step: -1 },
    { kind: 'pending', learningRate: 1 },
    { kind: 'pending', tokens: 0, learningRate: 1 },
    { kind: 'other' },
  ])('of the coordinator with a state source like %o are refused', (source) => {
    const message = { ...envelope, type: 'enter', source };
    expect(coordinatorMessageSchema.safeParse(message).success).toBe(false);
  });

  test('an explanation that is too long is cut, for a message must not be lost over it', () => {
    const message = { ...envelope, type: 'stop', reason: 'x'.repeat(5000) };
    expect(coordinatorMessageSchema.parse(message)).toMatchObject({ reason: 'x'.repeat(1024) });
  });
});

describe('jobs', () => {
  test('have the same id exactly when they are the same', () => {
    // The run's name comes first and numbers hold no dash, so the parts cannot run into one another.
    fc.assert(
      fc.property(job, job, (a, b) => {
        expect(jobId(a)).toBe(jobId({ ...a }));
        expect(jobId(a) === jobId({ ...b, run: a.run })).toBe(
          (['generation', 'step', 'plan', 'first', 'count'] as const).every((field) => a[field] === b[field]),
        );
      }),
    );
    const one = { run: 'r', generation: 1, step: 1, plan: 1, first: 1, count: 1 };
    for (const field of ['generation', 'step', 'plan', 'first', 'count'] as const) {
      expect(jobId({ ...one, [field]: 2 })).not.toBe(jobId(one));
    }
  });

  test('hold no more than they should', () => {
    const one = { run: 'r', generation: 1, step: 1, plan: 1, first: 1, count: 1 };
    expect(jobSchema.safeParse(one).success).toBe(true);
    for (const change of [{ step: 0 }, { count: 0 }, { run: '' }, { text: 'long' }, { first: -1 }]) {
      expect(jobSchema.safeParse({ ...one, ...change }).success).toBe(false);
    }
  });
});
