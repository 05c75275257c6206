/**
 * Open pages do not slow training: one run in turns with a hundred event streams open, every tenth of which is never read, and
 * with none. What the streams cost the coordinator's process is told from its CPU time, which other load on the machine leaves
 * alone; step times are printed beside it, the better the more it takes: LOCKSTEP_STREAM_TURNS=20 LOCKSTEP_STREAM_STEPS=50.
 */
import { readFileSync } from 'node:fs';
import { type ClientRequest, get } from 'node:http';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { quantile } from '../../../src/base/index.ts';
import { type DashboardRun, startWithDashboard } from '../../support/dashboard-run.ts';
import { isCommit, preparedFolder, recordsOf } from '../../support/lockstep-command.ts';

const LIMIT_MS = 900_000;
const NUM_STREAMS = 100;
/** Clock ticks of /proc are hundredths of a second on every Linux that Node runs on. */
const MS_PER_TICK = 10;
/** Share of one core that a hundred streams may take. */
const CPU_SHARE_MAX = 0.06;
const TURNS = Number(process.env.LOCKSTEP_STREAM_TURNS ?? 3);
const STEPS_PER_TURN = Number(process.env.LOCKSTEP_STREAM_STEPS ?? 8);

it('a hundred open streams leave the steps as fast as none', { timeout: LIMIT_MS }, async () => {
  const { dir, data, remove } = await preparedFolder();
  onTestFinished(remove);
  const folder = join(dir, 'run');
  const train = await startWithDashboard([
    ...['train', '--data', data, '--run', folder, '--preset', 'tiny', '--steps', '100000'],
    ...['--set', 'checkpoint.every=100000', '--dashboard-port', '0'],
    // The length of a tiny step, of which most is waiting.
    ...['--micro-batches', '4', '--micro-batch-size', '1', '--throttle-worker', '0:75'],
  ]);
  const turns: {
    readonly isWatched: boolean;
    readonly from: number;
    readonly to: number;
    readonly cpuShare: number;
  }[] = [];
  let bytes = 0;
  try {
    await train.running.untilLogged(isCommit(5));
    for (let turn = 0; turn < 2 * TURNS; turn += 1) {
      const isWatched = turn % 2 === 1;
      const streams = isWatched ? await openStreams(train) : null;
      const from = await newestStep(train);
      const [wallMs, cpuMs] = [performance.now(), cpuMsOf(train.running.pid)];
      const to = from + STEPS_PER_TURN;
      await train.running.untilLogged(isCommit(to));
      const cpuShare = (cpuMsOf(train.running.pid) - cpuMs) / (performance.now() - wallMs);
      turns.push({ isWatched, from, to, cpuShare });
      bytes += streams?.close() ?? 0;
    }
  } finally {
    await train.end();
  }
  const times = new Map(
    recordsOf(folder)
      .filter(({ kind }) => kind === 'committed')
      .map(({ step, time }) => [step, Date.parse(String(time))]),
  );
  const stepMs = (watched: boolean) =>
    turns
      .filter(({ isWatched }) => isWatched === watched)
      // The first step of a turn began in the one before.
      .flatMap(({ from, to }) => Array.from({ length: to - from - 1 }, (_, index) => from + 2 + index))
      .map((step) => times.get(step)! - times.get(step - 1)!);
  const [without, under] = [stepMs(false), stepMs(true)];
  const [alone, watched] = [quantile(without, 0.5), quantile(under, 0.5)];
  console.log(
    `median step: ${alone.toFixed(1)} ms with no stream, ${watched.toFixed(1)} ms with ${NUM_STREAMS} ` +
      `(${(100 * (watched / alone - 1)).toFixed(1)} %), ${TURNS} turns of ${STEPS_PER_TURN} steps each, ` +
      `quartiles ${quartiles(without)} and ${quartiles(under)}`,
  );
  const share = (wanted: boolean) =>
    quantile(
      turns.filter(({ isWatched }) => isWatched === wanted).map(({ cpuShare }) => cpuShare),
      0.5,
    );
  const [idleShare, busyShare] = [share(false), share(true)];
  console.log(
    `coordinator: ${(100 * idleShare).toFixed(1)} % of a core with no stream, ${(100 * busyShare).toFixed(1)} % with ${NUM_STREAMS}`,
  );
  expect(busyShare - idleShare).toBeLessThan(CPU_SHARE_MAX);
  expect(bytes, 'the streams carried events').toBeGreaterThan(NUM_STREAMS * 1000);
  // Wide: whatever else runs on this machine is in it.
  expect(watched).toBeLessThan(2 * alone + 50);
});

/** User and system time of a process so far (proc(5): fields 14 and 15 of stat). */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

function quartiles(times: readonly number[]): string {
  return [0.25, 0.75].map((share) => quantile(times, share).toFixed(0)).join(' to ');
}

async function newestStep({ url }: DashboardRun): Promise<number> {
  const response = await fetch(`${url}api/overview`);
  return ((await response.json()) as { step: number }).step;
}

/** Resolves once every stream has had its first bytes; `close` tells how many came in all. */
async function openStreams({ url }: DashboardRun): Promise<{ close(): number }> {
  const requests: ClientRequest[] = [];
  let bytes = 0;
  const greeted = Array.from({ length: NUM_STREAMS }, (_, index) => {
    return new Promise<void>((resolve, reject) => {
      const request = get(`${url}api/events`, { headers: { accept: 'text/event-stream' }, agent: false });
      request.once('error', reject);
      request.once('response', (response) => {
        // Closed by this test in the end; what that breaks off is no trouble.
        response.on('error', () => {});
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (index % 10 === 0) response.pause();
          resolve();
        });
      });
      requests.push(request);
    });
  });
  await Promise.all(greeted);
  return {
    close: () => {
      for (const request of requests) request.destroy();
      return bytes;
    },
  };
}
