/**
 * Frames: whatever is sealed comes back the same; whatever is changed, cut, forged or nonsense is a
 * reason and never a throw.
 */
import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { pack } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import {
  BODY_BYTES_MAX,
  coordinatorMessageSchema,
  deriveKey,
  gradientHeaderSchema,
  open,
  PROTOCOL_VERSION,
  seal,
  workerMessageSchema,
} from '../../../src/protocol/index.ts';
import { COORDINATOR_MESSAGES, gradientHeader, WORKER_MESSAGES } from '../../support/message-fixtures.ts';

const KEY = deriveKey('a token', 'frame');
const anyWorkerMessage = fc.oneof(...Object.values(WORKER_MESSAGES));
const anyCoordinatorMessage = fc.oneof(...Object.values(COORDINATOR_MESSAGES));

/** The right seal for any body: what only a holder of the token can make. */
function sealedBy(key: Buffer, body: Uint8Array): Buffer {
  return createHmac('sha256', key).update(body).digest().subarray(0, 16);
}

function reasonOf(opened: ReturnType<typeof open>): string {
  return opened.ok ? expect.fail('the frame was accepted') : opened.reason;
}

describe('a round trip', () => {
  test.each(Object.entries(WORKER_MESSAGES))('brings the worker’s %s back', (type, arbitrary) => {
    fc.assert(
      fc.property(arbitrary, (message) => {
        const [body, sealed] = seal(KEY, message);
        expect(open(KEY, workerMessageSchema, body, sealed)).toEqual({ ok: true, value: message });
        expect(message.type).toBe(type);
      }),
      { numRuns: 30 },
    );
  });

  test.each(Object.entries(COORDINATOR_MESSAGES))('brings the coordinator’s %s back', (type, arbitrary) => {
    fc.assert(
      fc.property(arbitrary, (message) => {
        const [body, sealed] = seal(KEY, message);
        expect(open(KEY, coordinatorMessageSchema, body, sealed)).toEqual({ ok: true, value: message });
        expect(message.type).toBe(type);
      }),
      { numRuns: 30 },
    );
  });

  test('brings gradient headers back', () => {
    fc.assert(
      fc.property(gradientHeader, (header) => {
        const [body, sealed] = seal(KEY, header);
        expect(open(KEY, gradientHeaderSchema, body, sealed)).toEqual({ ok: true, value: header });
      }),
    );
  });

  test('of a message for the other side is refused', () => {
    fc.assert(
      fc.property(anyCoordinatorMessage, (message) => {
        // Both sides say "heartbeat"; the worker's carries its memory as well.
        const [body, sealed] = seal(KEY, message);
        expect(open(KEY, workerMessageSchema, body, sealed).ok).toBe(false);
      }),
    );
  });
});

describe('a frame', () => {
  const message = fc.oneof(anyWorkerMessage, anyCoordinatorMessage, gradientHeader);

  test('of which any bit is changed is refused', () => {
    fc.assert(
      fc.property(
        message,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        (sent, at, bits, inBody) => {
          const frame = seal(KEY, sent);
          const part = frame[inBody ? 0 : 1];
          part[at % part.length] = part[at % part.length]! ^ bits;
          expect(reasonOf(open(KEY, workerMessageSchema, ...frame))).toMatch(/^seal is wrong/);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('that is cut short or grown at either part is refused', () => {
    fc.assert(
      fc.property(message, fc.nat(), fc.boolean(), fc.boolean(), (sent, at, inBody, grows) => {
        const [body, sealed] = seal(KEY, sent);
        const change = (part: Buffer) =>
          grows ? Buffer.concat([part, Buffer.from([at & 255])]) : part.subarray(0, at % part.length);
        const opened = inBody
          ? open(KEY, workerMessageSchema, change(body), sealed)
          : open(KEY, workerMessageSchema, body, change(sealed));
        expect(reasonOf(opened)).toMatch(/^seal is wrong/);
      }),
      { numRuns: 300 },
    );
  });

  test('of another token, or of a key for another purpose, is refused', () => {
    const hello = fc.sample(WORKER_MESSAGES.hello, { numRuns: 1, seed: 1 })[0]!;
    for (const key of [
      deriveKey('another token', 'frame'),
      deriveKey('a token', 'http'),
      deriveKey('', 'frame'),
    ]) {
      expect(reasonOf(open(KEY, workerMessageSchema, ...seal(key, hello)))).toMatch(/^seal is wrong/);
    }
  });

  test('with too few parts is refused', () => {
    expect(reasonOf(open(KEY, workerMessageSchema, undefined, undefined))).toBe('frame has too few parts');
    expect(reasonOf(open(KEY, workerMessageSchema, Buffer.from('x'), undefined))).toBe(
      'frame has too few parts',
    );
    expect(reasonOf(open(KEY, workerMessageSchema, Buffer.alloc(0), Buffer.alloc(0)))).toMatch(
      /^seal is wrong/,
    );
  });

  test('that is oversized is refused before its seal is computed, and the largest allowed is not', () => {
    const body = Buffer.alloc(BODY_BYTES_MAX + 1);
    expect(reasonOf(open(KEY, workerMessageSchema, body, Buffer.alloc(16)))).toBe('frame is oversized');
    expect(reasonOf(open(KEY, workerMessageSchema, body.subarray(1), Buffer.alloc(16)))).toMatch(/^seal/);
  });

  test('of any bytes under the right seal is a reason, never a throw', () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(bytes, (body) => {
        const opened = open(KEY, workerMessageSchema, body, sealedBy(KEY, body));
        expect(opened.ok).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });

  test('whose body was damaged before it was sealed never throws and never gains a wrong field', () => {
    fc.assert(
      fc.property(anyWorkerMessage, fc.nat(), fc.nat(255), (sent, at, byte) => {
        const [body] = seal(KEY, sent);
        body[at % body.length] = byte;
        const opened = open(KEY, workerMessageSchema, body, sealedBy(KEY, body));
        if (opened.ok) expect(workerMessageSchema.parse(opened.value)).toEqual(opened.value);
        else expect(opened.reason).not.toContain('\n');
      }),
      { numRuns: 1000 },
    );
  });

  test('names the first wrong field', () => {
    const hello = fc.sample(WORKER_MESSAGES.hello, { numRuns: 1, seed: 1 })[0]!;
    const refusal = (change: object) =>
      reasonOf(open(KEY, workerMessageSchema, ...seal(KEY, { ...hello, ...change })));
    expect(refusal({ pid: -1 })).toMatch(/^field pid: /);
    expect(refusal({ protocol: PROTOCOL_VERSION + 1 })).toMatch(/^field protocol: /);
    expect(refusal({ step: 1.5 })).toMatch(/^field step: /);
    expect(refusal({ generation: Number.NaN })).toMatch(/^field generation: /);
    expect(refusal({ name: '' })).toMatch(/^field name: /);
    expect(refusal({ type: 'constructor' })).toMatch(/^field type: /);
    expect(reasonOf(open(KEY, workerMessageSchema, ...seal(KEY, [])))).toMatch(/^field : /);
  });

  test('cannot reach the prototype of anything', () => {
    const body = pack(JSON.parse('{"__proto__": {"polluted": true}, "type": "leaving"}'));
    expect(open(KEY, workerMessageSchema, body, sealedBy(KEY, body)).ok).toBe(false);
    expect({}).not.toHaveProperty('polluted');
  });
});
