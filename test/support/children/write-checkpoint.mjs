/**
 * A process that writes checkpoints of steps 1, 2, 3, ... for ever, in small ranges, and says when each
 * is committed. Its life ends by a kill. Arguments: compiled source, checkpoints folder, parameters.
 */
const [source, dir, parameters] = process.argv.slice(2);
const { SECTIONS } = await import(`${source}/base/index.js`);
const { CheckpointStore } = await import(`${source}/checkpoint/index.js`);
const { canonicalJson } = await import(`${source}/config/index.js`);
const { createHash } = await import('node:crypto');

const layout = [{ name: 'weight', shape: [Number(parameters)], offset: 0, size: Number(parameters) }];
const RANGE = 4096;
const facts = {
  runId: 'run-1',
  commit: null,
  bitDeciding: {},
  fingerprint: createHash('sha256').update(canonicalJson({})).digest('hex'),
  datasetSha256: 'ab'.repeat(32),
  tokensSeen: 0,
  createdAt: '2026-11-21T12:00:00Z',
  lockstepVersion: '0.1.0',
};

const store = await CheckpointStore.open(dir, { every: 1, keepLast: 2, keepEvery: null });
for (let step = 1; ; step += 1) {
  const writer = await store.begin({ step, layout });
  for (const section of SECTIONS) {
    for (let first = 0; first < parameters; first += RANGE) {
      const count = Math.min(RANGE, parameters - first);
      await writer.write(section, first, new Uint8Array(new Float32Array(count).fill(step).buffer));
    }
  }
  await writer.commit(facts);
  process.stdout.write(`${step}\n`);
}
