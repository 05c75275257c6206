/** Arbitrary messages of every type, as the protocol allows them: for round trips and mutations. */
import fc from 'fast-check';
import {
  type CoordinatorMessage,
  type Envelope,
  type GradientHeader,
  type HeldState,
  type Job,
  PROTOCOL_VERSION,
  type StateSource,
  type WorkerMessage,
} from '../../src/protocol/index.ts';

const count = fc.nat(2 ** 40);
const positive = fc.integer({ min: 1, max: 2 ** 31 - 1 });
/** MessagePack writes whole numbers as integers, which have one zero only. */
const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
const identifier = fc.string({ minLength: 1, maxLength: 128, unit: 'grapheme-ascii' });
const text = fc.string({ maxLength: 200, unit: 'grapheme' });
const hex = (length: number) =>
  fc
    .array(fc.constantFrom(...'0123456789abcdef'), { minLength: length, maxLength: length })
    .map((all) => all.join(''));
const digest = hex(32);
const sha256 = hex(64);

const envelope = {
  protocol: fc.constant(PROTOCOL_VERSION),
  run: text,
  incarnation: identifier,
  generation: count,
  step: count,
  attempt: count,
};
type Typed<Type, Fields> = Pick<Envelope, keyof typeof envelope> & { type: Type } & Fields;

const nullable = <T>(some: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(some);

/** A record of the envelope, the type and the fields given. */
function typed<Type extends string, Fields extends object>(
  type: Type,
  fields: { [Name in keyof Fields]: fc.Arbitrary<Fields[Name]> },
): fc.Arbitrary<Typed<Type, Fields>> {
  // fast-check's own type makes every spread field optional.
  const model: object = { ...envelope, type: fc.constant(type), ...fields };
  return fc.record(model) as unknown as fc.Arbitrary<Typed<Type, Fields>>;
}

const layout = fc.array(
  fc.record({ name: identifier, shape: fc.array(positive, { minLength: 1, maxLength: 4 }) }),
  { minLength: 1, maxLength: 5 },
);
const results = fc.array(fc.record({ slot: count, tokens: count, lossSum: number }), {
  minLength: 1,
  maxLength: 5,
});
const held: fc.Arbitrary<HeldState> = fc.record({
  step: count,
  parametersDigest: digest,
  pending: nullable(fc.record({ step: count, gradientDigest: digest })),
});
const source: fc.Arbitrary<StateSource> = fc.oneof(
  fc.record({ kind: fc.constant('initial' as const) }),
  fc.record({ kind: fc.constant('checkpoint' as const), step: count }),
  fc.record({ kind: fc.constant('held' as const) }),
  fc.record({ kind: fc.constant('pending' as const), tokens: positive, learningRate: number }),
);
const peerMemory = nullable(fc.record({ domain: identifier, pid: count, descriptor: count }));
const times = fc.record({
  data: number,
  compute: number,
  wait: number,
  reduce: number,
  commit: number,
  optimizer: number,
});

/** By type, so that a test can tell that none is missing. */
export const WORKER_MESSAGES: { [Type in WorkerMessage['type']]: fc.Arbitrary<WorkerMessage> } = {
  hello: typed('hello', {
    name: nullable(identifier.map((name) => name.slice(0, 64))),
    formerly: nullable(identifier),
    host: text,
    pid: count,
    peerEndpoint: text,
    peerMemory,
  }),
  prepared: typed('prepared', {
    device: text,
    engineVersion: fc.string({ maxLength: 128 }),
    layout,
    held: nullable(held),
  }),
  ready: typed('ready', { parametersDigest: digest }),
  stateFailed: typed('stateFailed', { reason: text }),
  heartbeat: typed('heartbeat', {
    ...{ residentBytes: count, engineBytes: nullable(count), sentBytes: count, receivedBytes: count },
    hears: fc.boolean(),
  }),
  leased: typed('leased', { job: identifier, first: count, count: positive }),
  computed: typed('computed', {
    job: identifier,
    results,
    milliseconds: fc.double({ min: 0, max: 1e12, noNaN: true }),
  }),
  handedBack: typed('handedBack', { job: identifier, first: count }),
  notFinite: typed('notFinite', { slot: nullable(count), reason: text }),
  vote: typed('vote', {
    parametersDigest: nullable(digest),
    gradientDigest: digest,
    times: nullable(times),
  }),
  reduceFailed: typed('reduceFailed', { reason: text }),
  uploaded: typed('uploaded', { parametersDigest: digest }),
  uploadFailed: typed('uploadFailed', { reason: text }),
  draining: typed<'draining', object>('draining', {}),
  leaving: typed('leaving', { reason: text }),
};

export const COORDINATOR_MESSAGES: {
  [Type in CoordinatorMessage['type']]: fc.Arbitrary<CoordinatorMessage>;
} = {
  welcome: typed('welcome', {
    worker: identifier,
    // By way of text, which has no -0: msgpackr packs it as 0.
    config: fc.json({ maxDepth: 3 }).map((text) => JSON.parse(text) as unknown),
    fingerprint: sha256,
    dataset: sha256,
    redisUrl: text,
    queueName: identifier,
    httpUrl: text,
  }),
  refused: typed('refused', { reason: text }),
  evicted: typed('evicted', { reason: text }),
  heartbeat: typed<'heartbeat', object>('heartbeat', {}),
  enter: typed('enter', { source }),
  granted: typed('granted', { job: identifier, first: count }),
  denied: typed('denied', { job: identifier, reason: text }),
  takeBack: typed('takeBack', { job: identifier, first: count }),
  drain: typed<'drain', object>('drain', {}),
  quarantined: typed('quarantined', { reason: text }),
  members: typed('members', {
    members: fc.array(
      fc.record({ incarnation: identifier, worker: identifier, peerEndpoint: text, peerMemory }),
      { minLength: 1, maxLength: 4 },
    ),
  }),
  reduce: typed('reduce', {
    slotOwners: fc.array(count, { minLength: 1, maxLength: 16 }),
  }),
  abort: typed('abort', { reason: text }),
  commit: typed('commit', { tokens: positive, learningRate: number }),
  skip: typed('skip', { reason: text }),
  snapshot: typed('snapshot', { offset: count, length: count }),
  stop: typed('stop', { reason: text }),
};

export const gradientHeader: fc.Arbitrary<GradientHeader> = fc.record({
  ...envelope,
  type: fc.constantFrom('fragment', 'reduced', 'fragmentUnread', 'reducedUnread'),
  rank: count,
  precision: fc.constantFrom('float32', 'bfloat16'),
  first: count,
  count: positive,
  offset: count,
  length: positive,
  digest: nullable(digest),
  memoryAt: nullable(count),
});

export const job: fc.Arbitrary<Job> = fc.record({
  run: identifier,
  generation: count,
  step: positive,
  plan: count,
  first: count,
  count: positive,
});
