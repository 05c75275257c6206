/**
 * The dashboard of a real run: two worker processes, real Redis, real HTTP. One run serves all tests of this
 * file, in order, and is looked at again from its folder once it has ended.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type {
  CheckpointsView,
  CheckpointView,
  DataView as DatasetView,
  Generated,
  HistoryView,
  LogView,
  NoisedExample,
  Overview,
  PlaygroundView,
  QueueView,
  SeriesView,
  SessionView,
  TimelineView,
  WorkersView,
} from '../../../src/dashboard/contract.ts';
import { ask, type DashboardRun, startWithDashboard } from '../../support/dashboard-run.ts';
import { committedSteps, preparedFolder, succeed } from '../../support/lockstep-command.ts';

const LIMIT_MS = 120_000;
const LOST_LIMIT_MS = 3000;
const POLL = { timeout: 60_000, interval: 50 };

let folder: Awaited<ReturnType<typeof preparedFolder>>;
let runDir: string;
let run: DashboardRun;
let csrf: string;

beforeAll(async () => {
  folder = await preparedFolder();
  runDir = join(folder.dir, 'run');
  const sizes = ['--micro-batches', '4', '--micro-batch-size', '2', '--set', 'checkpoint.every=5'];
  // Slowed down: what is looked at needs steps that go on, not all of the machine.
  const pace = ['--throttle-worker', '0:100', '1:100', '2:100'];
  const flags = ['--workers', '3', '--steps', '100000', '--dashboard-port', '0', ...sizes, ...pace];
  run = await startWithDashboard(['train', '--data', folder.data, '--run', runDir, ...flags]);
  csrf = (await ask<SessionView>(run, 'api/session')).csrf ?? '';
  await vi.waitFor(async () => expect((await overview()).step).toBeGreaterThanOrEqual(6), POLL);
}, LIMIT_MS);

afterAll(async () => {
  await run?.end();
  folder?.remove();
}, LIMIT_MS);

const overview = () => ask<Overview>(run, 'api/overview');
const workerNamed = async (name: string) =>
  (await ask<WorkersView>(run, 'api/workers')).rows.find((row) => row.name === name);

function post(path: string, headers: Record<string, string> = {}, body: unknown = {}): Promise<Response> {
  const json = { 'content-type': 'application/json', ...headers };
  return fetch(new URL(path, run.url), { method: 'POST', headers: json, body: JSON.stringify(body) });
}

describe('while it trains', { timeout: LIMIT_MS }, () => {
  test('the overview tells state and figures, and steps go on', async () => {
    const before = await overview();
    expect(before).toMatchObject({ live: true, state: 'training', totalSteps: 100_000 });
    expect(before.headline).toMatch(/^training, step \d+ of 100,000, 3 workers$/);
    expect(before.tokensPerSecond).toBeGreaterThan(0);
    expect(before.leftMs).toBeGreaterThan(0);
    await expect.poll(async () => (await overview()).step, POLL).toBeGreaterThan(before.step);
  });

  test('workers report where their time goes, and what they send each other', async () => {
    const { rows, actions } = await ask<WorkersView>(run, 'api/workers');
    expect(actions).toEqual({ drain: true, evict: true });
    expect(rows.map(({ name, state }) => [name, state])).toEqual([
      ['worker-0', 'training'],
      ['worker-1', 'training'],
      ['worker-2', 'training'],
    ]);
    // Of four slots one worker may have come by none in the newest step.
    expect(rows.some(({ phases }) => phases!.compute > 0)).toBe(true);
    for (const row of rows) {
      expect(row.phases!.wait).toBeGreaterThanOrEqual(0);
      expect(row.sentBytes).toBeGreaterThan(0);
      expect(row.residentBytes).toBeGreaterThan(1e6);
      expect(row.engineBytes).toBeGreaterThan(1e5);
    }
    const { steps } = await ask<TimelineView>(run, 'api/timeline');
    const step = steps.findLast(({ lanes }) => lanes.length === 3)!;
    for (const { phases } of step.lanes) {
      const sum = Object.values(phases).reduce((total, ms) => total + ms, 0);
      // Clocks of two processes: a lane is about as long as its step.
      expect(Math.abs(sum - (step.endedAt - step.startedAt))).toBeLessThan(1000);
    }
  });

  test('the curve holds every committed step', async () => {
    const { step, loss } = await ask<SeriesView>(run, 'api/series');
    expect(step).toEqual(Array.from({ length: step.length }, (_, index) => index + 1));
    expect(loss.every((value) => value > 0 && value < 20)).toBe(true);
  });

  test('the queue is counted, shown by Bull Board, and not to be changed', async () => {
    const { queue, board } = await ask<QueueView>(run, 'api/queue');
    expect(board).toBe('readOnly');
    expect(queue!.waiting + queue!.leased).toBeLessThanOrEqual(16);
    const page = await fetch(new URL('queues', run.url));
    const html = await page.text();
    expect(page.status).toBe(200);
    expect(html).toContain('id="root"');
    expect(html).not.toMatch(/https?:\/\//);
    const [script] = /static\/js\/main[^"]*/.exec(html)!;
    expect((await fetch(new URL(`queues/${script}`, run.url))).status).toBe(200);
    const name = encodeURIComponent(queue!.name);
    const listed = await fetch(
      new URL(`queues/api/queues?activeQueue=${name}&page=1&jobsPerPage=10`, run.url),
    );
    expect(await listed.text()).toContain(queue!.name);
    const pause = await fetch(new URL(`queues/api/queues/${name}/pause`, run.url), { method: 'PUT' });
    expect(pause.status).toBe(405);
  });

  test('Prometheus finds the run’s figures and BullMQ’s', async () => {
    const response = await fetch(new URL('metrics', run.url));
    expect(response.headers.get('content-type')).toMatch(/^text\/plain/);
    const text = await response.text();
    const figureOf = (line: string) => Number(new RegExp(`^${line} (\\S+)$`, 'm').exec(text)?.[1]);
    expect(figureOf('lockstep_step')).toBeGreaterThan(5);
    expect(figureOf('lockstep_workers\\{state="training"\\}')).toBe(3);
    const computing = [0, 1, 2].map((index) =>
      figureOf(`lockstep_worker_phase_seconds\\{worker="worker-${index}",phase="compute"\\}`),
    );
    expect(Math.max(...computing)).toBeGreaterThan(0);
    expect(text).toMatch(/^bullmq_job_count\{queue="lockstep-\w+", state="active"\} \d+$/m);
    expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
    for (const line of text.split('\n').filter((one) => one !== '' && !one.startsWith('#'))) {
      expect(line).toMatch(/^[a-zA-Z_:][\w:]*(\{[^}]*\})? \S+$/);
    }
  });

  test('health and readiness', async () => {
    expect(await ask(run, 'healthz')).toEqual({ status: 'ok', reason: null });
    expect(await ask(run, 'readyz')).toEqual({ status: 'ok', reason: null });
  });

  test('checkpoints are listed, verified byte by byte and downloaded whole', async () => {
    const first = (await ask<CheckpointsView>(run, 'api/checkpoints')).checkpoints[0]!;
    expect(first).toMatchObject({ state: 'complete', reason: null });
    // Retention may remove it meanwhile: the newest one stays longest.
    const verified = await post(`api/checkpoints/${first.step}/verify`, { 'x-lockstep-csrf': csrf });
    expect(((await verified.json()) as CheckpointView).state).toBe('verified');
    const file = first.files.find(({ name }) => name === 'model.safetensors')!;
    const response = await fetch(new URL(`api/checkpoints/${first.step}/model.safetensors`, run.url));
    const bytes = Buffer.from(await response.arrayBuffer());
    expect(bytes.length).toBe(file.bytes);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(file.sha256);
    expect((await fetch(new URL('api/checkpoints/5/..%2f..%2fcommits.log', run.url))).status).toBe(400);
    expect((await fetch(new URL('api/checkpoints/99999/manifest.json', run.url))).status).toBe(404);
  });

  test('the epoch’s progress is told from the data set', async () => {
    const data = await ask<DatasetView>(run, 'api/data');
    expect(data.dataset!.articles).toBe(132);
    const { samples } = data.dataset!;
    expect(data.epoch! + data.epochShare!).toBeCloseTo(data.samplesSeen / samples, 9);
  });

  test('the playground answers, and shows how the model is taught', async () => {
    const { unavailable, checkpoints, lengthMax } = await ask<PlaygroundView>(run, 'api/playground');
    expect(unavailable).toBeNull();
    const text = 'A <b>river</b> 😀 is long.';
    const response = await post('api/playground/generate', { 'x-lockstep-csrf': csrf }, { text, length: 12 });
    const generated = (await response.json()) as Generated;
    expect(response.status).toBe(200);
    expect(generated.step).toBeGreaterThanOrEqual(checkpoints.at(-1)!);
    expect(generated.tokens.length).toBeLessThanOrEqual(12);
    expect(generated.tokens.map((token) => token.text).join('')).toBe(generated.text);
    const place = 'api/playground/example?step=3&slot=1&row=1';
    const example = await ask<NoisedExample>(run, place);
    expect(example.target.length).toBeLessThan(lengthMax);
    expect(example.source.some(({ mask }) => mask)).toBe(true);
    expect(await ask<NoisedExample>(run, place)).toMatchObject({
      source: example.source,
      target: example.target,
    });
    expect((await fetch(new URL('api/playground/example?step=3&slot=4&row=0', run.url))).status).toBe(409);
    expect((await post('api/playground/generate', { 'x-lockstep-csrf': csrf }, { text: '' })).status).toBe(
      400,
    );
  });

  test('nobody acts from another site, or without what the page knows', async () => {
    const own = { 'x-lockstep-csrf': csrf };
    const path = 'api/workers/worker-2/evict';
    const origin = new URL(run.url).origin;
    expect((await post(path)).status).toBe(403);
    expect((await post(path, { 'x-lockstep-csrf': `${csrf}x` })).status).toBe(403);
    expect((await post(path, { ...own, origin: 'http://evil.example' })).status).toBe(403);
    expect((await post(path, { ...own, 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    expect((await post('api/workers/nobody/evict', { ...own, origin })).status).toBe(409);
    expect((await workerNamed('worker-2'))!.state).toBe('training');
  });

  test('an evicted worker is out at once, and the run goes on', async () => {
    const { step } = await overview();
    const answer = await post('api/workers/worker-2/evict', { 'x-lockstep-csrf': csrf });
    expect(answer.status).toBe(200);
    await expect.poll(async () => (await workerNamed('worker-2'))!.state, POLL).toBe('left');
    await expect.poll(async () => (await overview()).step, POLL).toBeGreaterThan(step + 1);
    const { entries } = await ask<HistoryView>(run, 'api/history?kinds=loss&limit=5');
    expect(entries[0]).toMatchObject({
      worker: 'worker-2',
      text: expect.stringContaining('evicted by an operator'),
    });
  });

  test('a killed worker shows as lost within three seconds, with its log', async () => {
    const { pid } = (await workerNamed('worker-1'))!;
    process.kill(pid, 'SIGKILL');
    const killedMs = performance.now();
    await expect
      .poll(async () => (await workerNamed('worker-1'))!.state, { timeout: 10_000, interval: 20 })
      .toBe('lost');
    expect(performance.now() - killedMs).toBeLessThan(LOST_LIMIT_MS);
    const { headline, problems } = await overview();
    expect(headline).toMatch(/1 worker, 1 lost$/);
    expect(problems).toContainEqual(expect.objectContaining({ kind: 'workerLost', level: 'warning' }));
    const { entries } = await ask<HistoryView>(run, 'api/history?kinds=loss&limit=1');
    const { at, logs } = entries[0]!;
    expect(logs).toEqual(['coordinator.log', 'worker-1.log']);
    const { lines } = await ask<LogView>(run, `api/logs?file=coordinator.log&at=${at}`);
    expect(lines.some(({ near, event }) => near && event === 'workerLost')).toBe(true);
  });

  test('a worker that is asked to leave has left, and is no problem', async () => {
    const answer = await post('api/workers/worker-0/drain', { 'x-lockstep-csrf': csrf });
    expect(answer.status).toBe(200);
    await expect.poll(async () => (await workerNamed('worker-0'))!.state, POLL).toBe('left');
  });
});

describe('once it has ended', { timeout: LIMIT_MS }, () => {
  let shown: DashboardRun;
  beforeAll(async () => {
    await run.end();
    shown = await startWithDashboard(['dashboard', runDir, '--port', '0']);
  }, LIMIT_MS);
  afterAll(() => shown?.end());

  test('its folder tells the same, step by step', async () => {
    const told = await ask<Overview>(shown, 'api/overview');
    const steps = committedSteps(runDir);
    expect(told).toMatchObject({ live: false, step: steps.at(-1) });
    expect((await ask<SeriesView>(shown, 'api/series')).step).toEqual(steps);
    const { rows, actions } = await ask<WorkersView>(shown, 'api/workers');
    expect(actions).toEqual({ drain: false, evict: false });
    expect(rows.map(({ state }) => state).sort()).toEqual(['left', 'left', 'lost']);
    const { counts } = await ask<HistoryView>(shown, 'api/history');
    expect(counts).toMatchObject({ commit: steps.length });
    expect(counts.loss).toBeGreaterThanOrEqual(3);
  });

  test('the queue is gone, and says so', async () => {
    expect((await ask<QueueView>(shown, 'api/queue')).queue).toBeNull();
    expect((await fetch(new URL('queues', shown.url))).status).toBe(503);
  });

  test('the terminal tells it too, with a plot', async () => {
    const text = await succeed(['status', runDir, '--plot']);
    expect(text).toMatch(/^run: .*step \d+ of 100,000/);
    expect(text).toMatch(/\nloss\n.* ┤/);
    expect(text).toMatch(/worker-1 +lost/);
  });

  test('what was recorded is readable line by line', () => {
    const lines = readFileSync(join(runDir, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
    const records = lines.map((line) => JSON.parse(line) as { kind: string; step: number });
    expect(records[0]).toMatchObject({ kind: 'opened' });
    const steps = records.filter(({ kind }) => kind === 'committed').map(({ step }) => step);
    expect(steps).toEqual(committedSteps(runDir));
  });
});
