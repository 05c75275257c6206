/**
 * The control messages between coordinator and workers, and the header of a gradient frame.
 *
 * Every message carries the run, the sender's incarnation, and the generation, step and attempt it
 * speaks of, so that the stale and the foreign can be told at the door (see admission.ts). Messages
 * are parsed here once, at the socket, and trusted inside. docs/PROTOCOL.md draws the exchanges.
 */
import { z } from 'zod';
import { GRADIENT_PRECISIONS } from '../config/index.ts';

/** Raised whenever a message or a frame changes its meaning; unequal versions refuse each other. */
export const PROTOCOL_VERSION = 6;

const count = z.int().min(0);
const identifier = z.string().min(1).max(128);
const digest = z.string().regex(/^[0-9a-f]{32}$/);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** Words for a person; cut rather than refused, because no message may be lost over its explanation. */
const reason = z.string().transform((text) => text.slice(0, 1024));

const envelope = {
  protocol: z.literal(PROTOCOL_VERSION),
  /** Empty only in a first `hello`, whose sender does not know the run yet. */
  run: z.string().max(128),
  incarnation: identifier,
  generation: count,
  step: count,
  attempt: count,
};

const layoutSchema = z
  .array(z.object({ name: identifier, shape: z.array(z.int().min(1)).min(1).max(4) }))
  .min(1)
  .max(100_000);

const slotResultSchema = z.object({
  slot: count,
  /** Real target tokens of the micro-batch. */
  tokens: count,
  /** Sum of the losses over those tokens, in nats. */
  lossSum: z.number(),
});
export type SlotResult = z.infer<typeof slotResultSchema>;

/** Where the time of a worker's last step went, in milliseconds. */
const phaseTimesSchema = z.object({
  data: z.number(),
  compute: z.number(),
  /** What is left of the time from one update to the next: for a range, for the others, for a member lost. */
  wait: z.number(),
  reduce: z.number(),
  commit: z.number(),
  optimizer: z.number(),
});
export type PhaseTimes = z.infer<typeof phaseTimesSchema>;

const updateShape = {
  /** Real target tokens of the whole step: what the summed gradient is divided by. */
  tokens: z.int().min(1),
  learningRate: z.number(),
};

/** What a worker that comes back has kept in memory. */
const heldStateSchema = z.object({
  step: count,
  parametersDigest: digest,
  /** The reduced gradient of the step after, which it voted for, if it has that. */
  pending: z.object({ step: count, gradientDigest: digest }).nullable(),
});
export type HeldState = z.infer<typeof heldStateSchema>;

const stateSourceSchema = z.discriminatedUnion('kind', [
  /** Step 0: every worker draws the same parameters from the seed. */
  z.object({ kind: z.literal('initial') }),
  /** The coordinator serves the state from its checkpoint of this step. */
  z.object({ kind: z.literal('checkpoint'), step: count }),
  /** The worker holds the state already: it comes back with what it had before the connection was lost. */
  z.object({ kind: z.literal('held') }),
  /** Likewise but for the newest step, which committed unheard: it holds that step's reduced gradient. */
  z.object({ kind: z.literal('pending'), ...updateShape }),
]);
export type StateSource = z.infer<typeof stateSourceSchema>;

/** Memory that workers of one host read from each other: see net/gradient-memory.ts. */
const memoryAddressSchema = z.object({
  /** Equal for workers that can reach each other's memory. */
  domain: z.string().min(1).max(256),
  pid: count,
  descriptor: count,
});
export type MemoryAddress = z.infer<typeof memoryAddressSchema>;

export const workerMessageSchema = z.discriminatedUnion('type', [
  z.object({
    ...envelope,
    type: z.literal('hello'),
    name: z.string().min(1).max(64).nullable(),
    /** The incarnation that this process had before and has given up. */
    formerly: identifier.nullable(),
    host: z.string().max(256),
    pid: count,
    /** Where peers reach this worker's gradient socket. */
    peerEndpoint: z.string().max(512),
    /** Where those of the same host find the gradients themselves. */
    peerMemory: memoryAddressSchema.nullable(),
  }),
  z.object({
    ...envelope,
    type: z.literal('prepared'),
    device: z.string().max(256),
    engineVersion: z.string().max(128),
    layout: layoutSchema,
    held: heldStateSchema.nullable(),
  }),
  z.object({ ...envelope, type: z.literal('ready'), parametersDigest: digest }),
  /** The state it was to enter with could not be had. */
  z.object({ ...envelope, type: z.literal('stateFailed'), reason }),
  z.object({
    ...envelope,
    type: z.literal('heartbeat'),
    residentBytes: count,
    /** Held by the engine's tensors after the newest micro-batch; null before the first. */
    engineBytes: count.nullable(),
    /** Gradients sent to peers and received from them since the process was started, in bytes. */
    sentBytes: count,
    receivedBytes: count,
    /** Whether it has heard the coordinator within the heartbeat limit; else this is no sign of life. */
    hears: z.boolean(),
  }),
  z.object({ ...envelope, type: z.literal('leased'), job: identifier, first: count, count: z.int().min(1) }),
  /** Some slots of a job are in the worker's fragments, in slot order; the rest may follow. */
  z.object({
    ...envelope,
    type: z.literal('computed'),
    job: identifier,
    results: z.array(slotResultSchema).min(1).max(65_536),
    milliseconds: z.number().min(0),
  }),
  /** The job's slots from `first` on are not in the worker's fragments and will not come into them. */
  z.object({ ...envelope, type: z.literal('handedBack'), job: identifier, first: count }),
  z.object({
    ...envelope,
    type: z.literal('notFinite'),
    /** The slot whose own gradient is not finite; null when only the sum over all slots is. */
    slot: count.nullable(),
    reason,
  }),
  z.object({
    ...envelope,
    type: z.literal('vote'),
    /** Of the parameters the step starts from; null from a worker whose replica lags behind. */
    parametersDigest: digest.nullable(),
    gradientDigest: digest,
    /** Times of the step before, whose commit and optimizer are over by now; null in the first step. */
    times: phaseTimesSchema.nullable(),
  }),
  /** The reduction cannot be finished: a fragment was refused, or a peer could not be reached. */
  z.object({ ...envelope, type: z.literal('reduceFailed'), reason }),
  /** Its part is there; the digest is that of the parameters it was cut from. */
  z.object({ ...envelope, type: z.literal('uploaded'), parametersDigest: digest }),
  z.object({ ...envelope, type: z.literal('uploadFailed'), reason }),
  /** It wants to leave once the step under way is over, and takes no more slots. */
  z.object({ ...envelope, type: z.literal('draining') }),
  /** It leaves at once. */
  z.object({ ...envelope, type: z.literal('leaving'), reason }),
]);
export type WorkerMessage = z.infer<typeof workerMessageSchema>;

const memberSchema = z.object({
  incarnation: identifier,
  worker: identifier,
  peerEndpoint: z.string().max(512),
  peerMemory: memoryAddressSchema.nullable(),
});
export type MemberAddress = z.infer<typeof memberSchema>;

export const coordinatorMessageSchema = z.discriminatedUnion('type', [
  z.object({
    ...envelope,
    type: z.literal('welcome'),
    worker: identifier,
    /** The effective run configuration; the worker parses it with its own schema. */
    config: z.unknown(),
    fingerprint: sha256,
    dataset: sha256,
    redisUrl: z.string().max(1024),
    queueName: identifier,
    httpUrl: z.string().max(512),
  }),
  z.object({ ...envelope, type: z.literal('refused'), reason }),
  /** This incarnation takes no part any more; the worker may come back as new. */
  z.object({ ...envelope, type: z.literal('evicted'), reason: z.string().max(1024) }),
  z.object({ ...envelope, type: z.literal('heartbeat') }),
  z.object({ ...envelope, type: z.literal('enter'), source: stateSourceSchema }),
  /** With the range that begins at `first`, as long as the job's own. */
  z.object({ ...envelope, type: z.literal('granted'), job: identifier, first: count }),
  z.object({ ...envelope, type: z.literal('denied'), job: identifier, reason }),
  /** Hand back the job's slots from `first` on, as far as they are not in the fragments yet. */
  z.object({ ...envelope, type: z.literal('takeBack'), job: identifier, first: count }),
  z.object({ ...envelope, type: z.literal('drain') }),
  /** The replica differs from the majority's: forget it and follow the run until another is sent. */
  z.object({ ...envelope, type: z.literal('quarantined'), reason }),
  /** Who takes part in the reductions of this generation. Each who does is told before its first order to reduce in it. */
  z.object({
    ...envelope,
    type: z.literal('members'),
    /** In rank order. */
    members: z.array(memberSchema).min(1).max(4096),
  }),
  /** Among the members of this generation. */
  z.object({
    ...envelope,
    type: z.literal('reduce'),
    /** Rank that computed each slot. */
    slotOwners: z.array(count).min(1).max(65_536),
  }),
  z.object({ ...envelope, type: z.literal('abort'), reason }),
  z.object({
    ...envelope,
    type: z.literal('commit'),
    ...updateShape,
  }),
  /** The step is over without an update, on all replicas alike. */
  z.object({ ...envelope, type: z.literal('skip'), reason }),
  z.object({
    ...envelope,
    type: z.literal('snapshot'),
    /** The part of every state vector that this worker uploads, in floats. */
    offset: count,
    length: count,
  }),
  z.object({ ...envelope, type: z.literal('stop'), reason }),
]);
export type CoordinatorMessage = z.infer<typeof coordinatorMessageSchema>;

/** The header of a frame between workers: which floats these are, of which attempt, from whom. */
export const gradientHeaderSchema = z.object({
  ...envelope,
  /** The last two carry nothing: their sender cannot read, in the receiver's memory, what the receiver sent as one of the first two. */
  type: z.enum(['fragment', 'reduced', 'fragmentUnread', 'reducedUnread']),
  rank: count,
  /** The node of the reduction tree a fragment is the value of; the root for a reduced piece. */
  first: count,
  count: z.int().min(1),
  /** Position within the flat vector and length, in floats. */
  offset: count,
  length: z.int().min(1),
  /** How the floats of a payload are written: whole, or the upper halves of those that were summed in bfloat16. */
  precision: z.enum(GRADIENT_PRECISIONS),
  /** Of the floats: their blocks' digests (kernels/digest.wat) combined; null where it never leaves the host's memory. */
  digest: digest.nullable(),
  /** The byte of the sender's memory at which the payload lies; null when it follows the header. */
  memoryAt: count.nullable(),
});
export type GradientHeader = z.infer<typeof gradientHeaderSchema>;

/** Bytes of the floats that a header speaks of, as they are written where they lie. */
export function payloadBytesOf({ length, precision }: GradientHeader): number {
  return length * (precision === 'bfloat16' ? 2 : 4);
}

/** The fields every message shares. */
export interface Envelope {
  readonly protocol: typeof PROTOCOL_VERSION;
  readonly run: string;
  readonly incarnation: string;
  readonly generation: number;
  readonly step: number;
  readonly attempt: number;
}

/** A message without its envelope: what a state machine decides to say. */
export type Said<Message> = Message extends unknown
  ? Omit<Message, 'protocol' | 'run' | 'incarnation'>
  : never;

/** Likewise without the place it speaks of, which the machine fills in. */
export type Unplaced<Message> = Message extends unknown
  ? Omit<Said<Message>, 'generation' | 'step' | 'attempt'>
  : never;

/** What a job in the queue holds: a reference to slots, never text. Granted, it may stand for other slots, as many. */
export const jobSchema = z.strictObject({
  run: identifier,
  generation: count,
  step: z.int().min(1),
  /** Serial number of the plan within the step; a job of an older plan is void. */
  plan: count,
  first: count,
  count: z.int().min(1),
});
export type Job = z.infer<typeof jobSchema>;

/**
 * The queue's id of a job: equal jobs have equal ids, so that adding one twice adds it once. A step that
 * is planned anew after a rewind belongs to another generation: an old job of it must not pass for a new
 * one, whose place in the queue it would take and leave empty when it is denied.
 */
export function jobId({ run, generation, step, plan, first, count }: Job): string {
  return `${run}-${generation}-${step}-${plan}-${first}-${count}`;
}

/** Largest piece of a state vector in one HTTP request, in bytes. */
export const STATE_PIECE_BYTES = 4 * 1024 * 1024;
/** HTTP header with the HMAC-SHA-256 of what `sealedDigests` names and the body, in hex. */
export const SEAL_HEADER = 'x-lockstep-seal';

/** What the seal of a file's block digests covers in front of them: an answer to another question does not pass for this one. */
export const sealedDigests = (run: string, file: string): string => `digests of ${file} in run ${run}\n`;

/** HTTP header with the CRC-32C of a piece, in decimal. */
export const CRC_HEADER = 'x-lockstep-crc32c';
