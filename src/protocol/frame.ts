/**
 * How messages look on the wire: `[body, seal]` for control and `[header, seal, payload]` for
 * gradients. The body is MessagePack; the seal is the first 16 bytes of its HMAC-SHA-256 (RFC 2104)
 * under a key derived from the cluster's token. A frame whose seal is wrong is dropped before
 * its body is unpacked. The payload is bare floats covered by the digest in its sealed header:
 * bulk between hosts that must be secret belongs in a private network.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { pack, unpack } from 'msgpackr';
import type { z } from 'zod';
import { messageOf } from '../base/index.ts';

const SEAL_BYTES = 16;
/** The largest control message: a layout of 100,000 named tensors fits. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024;

export type FrameKey = Buffer;

/** Derives one key per purpose from the cluster's token, so that no key serves two protocols. */
export function deriveKey(token: string, purpose: 'frame' | 'http'): FrameKey {
  return createHmac('sha256', token).update(`lockstep ${purpose} key 1`).digest();
}

function sealOf(key: FrameKey, body: Uint8Array): Buffer {
  return createHmac('sha256', key).update(body).digest().subarray(0, SEAL_BYTES);
}

export function seal(key: FrameKey, message: object): [Buffer, Buffer] {
  const body = pack(message);
  return [body, sealOf(key, body)];
}

export type Opened<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly reason: string };

/** Checks size, seal, encoding and schema, in that order; anything wrong is a reason, never a throw. */
export function open<T>(
  key: FrameKey,
  schema: z.ZodType<T>,
  body: Uint8Array | undefined,
  sealed: Uint8Array | undefined,
): Opened<T> {
  if (body === undefined || sealed === undefined) return { ok: false, reason: 'frame has too few parts' };
  if (body.length > BODY_BYTES_MAX) return { ok: false, reason: 'frame is oversized' };
  if (sealed.length !== SEAL_BYTES || !timingSafeEqual(sealOf(key, body), sealed)) {
    return { ok: false, reason: 'seal is wrong: the sender has another token' };
  }
  let value: unknown;
  try {
    value = unpack(body);
  } catch (error) {
    return { ok: false, reason: `body cannot be unpacked: ${messageOf(error)}` };
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return { ok: false, reason: `field ${issue?.path.join('.') ?? '?'}: ${issue?.message ?? 'invalid'}` };
  }
  return { ok: true, value: parsed.data };
}
