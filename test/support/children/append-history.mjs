/**
 * A process that opens a commit log and appends steps for ever, saying each number when it is on disk;
 * or that says what kept it from opening. Its life ends by a kill. Arguments: compiled source, log.
 */
const [source, path] = process.argv.slice(2);
const { CommitLog } = await import(`${source}/history/index.js`);

const time = '2026-11-21T12:00:00Z';
const digest = '00ff';
let log;
try {
  log = await CommitLog.open(path);
} catch (error) {
  process.stdout.write(`refused ${error.code}\n`);
  process.exit(1);
}
if (log.history.opened === null) {
  const sha256 = 'ab'.repeat(32);
  await log.append({
    kind: 'opened',
    runId: 'r',
    fingerprint: sha256,
    config: {},
    datasetSha256: sha256,
    time,
  });
}
for (let step = log.history.lastStep + 1; ; step += 1) {
  await log.append({
    kind: 'committed',
    step,
    generation: 1,
    attempt: 0,
    tokens: 64,
    lossSum: step,
    learningRate: 1,
    gradientDigest: digest,
    parametersDigest: digest,
    slots: Array.from({ length: 64 }, () => ({ tokens: 1, lossSum: step, worker: 'worker-0' })),
    time,
  });
  process.stdout.write(`${step}\n`);
}
