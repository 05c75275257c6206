/**
 * The dashboard of a run folder in a real browser, where things are not as they should be: no run yet, a token, a server that
 * goes and comes back or hangs, HTML in the data, and a run of 100,000 steps.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { HealthView, SeriesView } from '../../../src/dashboard/contract.ts';
import { findChromium, openBrowser, openPage, WITHOUT_CHROMIUM } from '../../support/browser.ts';
import { ask, type DashboardRun, startWithDashboard } from '../../support/dashboard-run.ts';
import { runInProcess, succeedInProcess } from '../../support/in-process.ts';
import { preparedFolder, succeed } from '../../support/lockstep-command.ts';
import { committed, opened } from '../../support/telemetry-fixtures.ts';

const LIMIT_MS = 180_000;
const SHOTS = fileURLToPath(new URL('../../../test-output/dashboard/', import.meta.url));
const SOON = { timeout: 30_000 };
const FEW = ['--steps', '2', '--micro-batches', '2', '--micro-batch-size', '2'];
const LONG_RUN_STEPS = 100_000;
const HOSTILE = '<script>document.title = "taken"</script> <img src=x onerror="document.title=1">';

const hasBrowser = findChromium() !== null;
if (!hasBrowser) console.warn(`browser-folder.test.ts: ${WITHOUT_CHROMIUM}`);

let dir = '';
let remove = () => {};
let browser: Browser;
const servers: DashboardRun[] = [];

/** `lockstep dashboard` of a folder below the test's own. */
async function serve(name: string, more: readonly string[] = [], env = {}): Promise<DashboardRun> {
  const port = more.includes('--port') ? [] : ['--port', '0'];
  const server = await startWithDashboard(['dashboard', join(dir, name), ...port, ...more], env);
  servers.push(server);
  return server;
}

async function pageOf({ url }: DashboardRun): Promise<{ page: Page; complaints: readonly string[] }> {
  const watched = await openPage(browser);
  await watched.page.goto(url);
  return watched;
}

describe.skipIf(!hasBrowser)('the dashboard of a folder', () => {
  beforeAll(async () => {
    ({ dir, remove } = await preparedFolder());
    browser = await openBrowser();
  }, LIMIT_MS);

  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    for (const server of servers.splice(0)) await server.end();
  }, LIMIT_MS);

  afterAll(async () => {
    await browser?.close();
    remove();
  });

  it('without a run says so, and shows the run as soon as one begins', { timeout: LIMIT_MS }, async () => {
    const server = await serve('to-come');
    const { page, complaints } = await pageOf(server);
    await page.getByRole('heading', { name: 'No run yet' }).waitFor(SOON);
    for (const name of ['Workers', 'History', 'Queue', 'Data', 'Playground']) {
      await page.getByRole('link', { name, exact: true }).click();
    }
    await page.getByRole('link', { name: 'Overview' }).click();
    const args = ['--data', join(dir, 'data'), '--preset', 'tiny', ...FEW];
    await succeed(['train', '--run', join(dir, 'to-come'), ...args]);
    await page.getByRole('heading', { name: /^Complete/i }).waitFor(SOON);
    await page.getByText('From its files').waitFor(SOON);
    await page.getByRole('img', { name: /^Loss, steps 1 to 2/ }).waitFor(SOON);
    expect(complaints.filter((text) => !/40[49]/.test(text))).toEqual([]);
  });

  it('asks for a token, and tells nothing without the right one', { timeout: LIMIT_MS }, async () => {
    const token = 'a-token-for-the-dashboard-of-tests';
    const server = await serve('secret', [], { LOCKSTEP_DASHBOARD_TOKEN: token });
    const { page } = await pageOf(server);
    await page.getByLabel('Token').fill('a-token-that-is-not-right');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').filter({ hasText: 'This token is not accepted.' }).waitFor(SOON);
    const refused = await page.request.get(`${server.url}api/overview`);
    expect([refused.status(), await refused.text()]).toEqual([401, '{"error":"unauthorized"}']);
    await page.getByLabel('Token').fill(token);
    await page.getByRole('button', { name: 'Open the dashboard' }).click();
    await page.getByRole('heading', { name: 'No run yet' }).waitFor(SOON);
    await page.reload();
    await page.getByRole('heading', { name: 'No run yet' }).waitFor(SOON);
  });

  it('says when its server is gone, and connects again by itself', { timeout: LIMIT_MS }, async () => {
    const server = await serve('to-come');
    const { page } = await pageOf(server);
    await page.getByText('From its files').waitFor(SOON);
    const { port } = new URL(server.url);
    await server.end();
    await page
      .getByRole('alert')
      .filter({ hasText: /coordinator (?:has not answered|has ended)/ })
      .waitFor(SOON);
    await page.getByText('Not connected').waitFor();
    await serve('to-come', ['--port', port]);
    await page.getByText('From its files').waitFor({ timeout: 5000 });
    await page.getByText('Not connected').waitFor({ state: 'detached' });
  });

  it('notices a server that hangs without closing anything', { timeout: LIMIT_MS }, async () => {
    const server = await serve('to-come');
    const { page } = await pageOf(server);
    await page.getByText('From its files').waitFor(SOON);
    server.running.kill('SIGSTOP');
    try {
      await page.getByText('Not connected').waitFor(SOON);
    } finally {
      server.running.kill('SIGCONT');
    }
    await page.getByText('From its files').waitFor(SOON);
  });

  it('shows HTML in the data as text', { timeout: LIMIT_MS }, async () => {
    const file = join(dir, 'hostile.jsonl');
    const sentence = `The town of ${HOSTILE} lies by the river and has a market. `;
    const article = { title: `<b>${HOSTILE}</b>`, text: sentence.repeat(40) };
    writeFileSync(file, `${JSON.stringify(article)}\n`.repeat(4));
    const data = join(dir, 'hostile-data');
    await succeedInProcess(['prepare', file, '--out', data, '--vocab-size', '300']);
    await succeed(['train', '--data', data, '--run', join(dir, 'hostile'), '--preset', 'tiny', ...FEW]);
    const { page, complaints } = await pageOf(await serve('hostile'));
    await page.getByRole('link', { name: 'Playground' }).click();
    await page.getByRole('button', { name: 'Show', exact: true }).click();
    const source = page.locator('.noised dd').first();
    await source.waitFor({ timeout: 90_000 });
    await page.getByLabel('Text', { exact: true }).fill(HOSTILE);
    await page.getByRole('button', { name: 'Generate' }).click();
    await page.locator('.token').first().waitFor({ timeout: 90_000 });
    expect(await page.locator('.noised').textContent()).toMatch(/<script>|<img src|onerror=/);
    expect(await page.locator('main script, main img, main b').count()).toBe(0);
    expect(await page.title()).toMatch(/ · Lockstep$/);
    expect(complaints).toEqual([]);
  });

  it('stays smooth over a run of 100,000 steps', { timeout: LIMIT_MS }, async () => {
    writeLongRun(join(dir, 'long'));
    const server = await serve('long');
    await expect
      .poll(() => ask<HealthView>(server, 'readyz').catch(() => null), SOON)
      .toMatchObject({ status: 'ok' });
    const series = await ask<SeriesView>(server, 'api/series');
    expect(series.step.length).toBeLessThanOrEqual(1024);
    expect(series.step.at(-1)).toBe(LONG_RUN_STEPS);
    const { page, complaints } = await pageOf(server);
    const chart = page.getByRole('img', { name: /^Loss, steps \d+ to 100,000/ });
    await chart.waitFor(SOON);
    await page.evaluate(WATCH_LONG_TASKS);
    const box = (await chart.boundingBox())!;
    /** Of one crossing each: other tests may take the page's core away in the middle of one. */
    const longest: number[] = [];
    while (longest.length < 5 && Math.min(...longest) >= 200) {
      await page.mouse.move(box.x + 80, box.y + 100);
      await page.evaluate('window.longTasks.length = 0');
      await page.mouse.move(box.x + box.width - 20, box.y + 120, { steps: 120 });
      await page
        .locator('.chart .at')
        .first()
        .filter({ hasText: /^step [\d,]+$/ })
        .waitFor(SOON);
      longest.push(await page.evaluate<number>('Math.max(0, ...window.longTasks)'));
    }
    console.log(`100,000 steps: longest task while the cursor crosses the chart ${longest.join(', ')} ms`);
    expect(Math.min(...longest)).toBeLessThan(200);
    expect(complaints).toEqual([]);
  });

  it("compares an early exit with the run's autoregressive twin", { timeout: LIMIT_MS }, async () => {
    const args = ['--data', join(dir, 'data'), '--preset', 'tiny', ...FEW];
    const twin = join(dir, 'twin');
    await succeed(['train', '--run', twin, ...args, '--set', 'objective.kind=autoregressive']);
    const wrong = await runInProcess(['dashboard', twin, '--port', '0', '--twin', join(dir, 'to-come')]);
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('objective.kind lplm: name a run that was trained with autoregressive');

    const server = await serve('to-come', ['--twin', twin]);
    const { page, complaints } = await pageOf(server);
    await page.getByRole('link', { name: 'Playground' }).click();
    await page.getByLabel('Exit threshold').fill('0.05');
    await page.getByRole('button', { name: 'Generate' }).click();
    await page.getByText(/its autoregressive twin .* times as long\.$/).waitFor({ timeout: 120_000 });
    await page.locator('.exit-layers li').nth(1).waitFor(SOON);
    await page.screenshot({ path: join(SHOTS, 'twin.png'), fullPage: true });
    expect(complaints).toEqual([]);
  });
});

const WATCH_LONG_TASKS = `window.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((entry) => entry.duration)))
  .observe({ type: 'longtask' });`;

/** Telemetry of a long run, as its coordinator would have written it. */
function writeLongRun(folder: string): void {
  mkdirSync(folder);
  const records = Array.from({ length: LONG_RUN_STEPS }, (_, index) =>
    committed(index + 1, { loss: 3 + 6 * Math.exp(-index / 20_000) + 0.2 * Math.sin(index * 12.9898) }),
  );
  const lines = [opened({ totalSteps: 2 * LONG_RUN_STEPS }), ...records].map((record) =>
    JSON.stringify(record),
  );
  writeFileSync(join(folder, 'metrics.jsonl'), `${lines.join('\n')}\n`);
}
