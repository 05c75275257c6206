/**
 * The dashboard in a real browser, over a real run: what a person sees is there, moves, and can be worked with
 * the keyboard; nothing is asked of another host, nothing complains. Screenshots go to test-output/dashboard.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { SeriesView, WorkerRow, WorkersView } from '../../../src/dashboard/contract.ts';
import {
  findChromium,
  openBrowser,
  openPage,
  type WatchedPage,
  WITHOUT_CHROMIUM,
} from '../../support/browser.ts';
import { ask, type DashboardRun, startWithDashboard } from '../../support/dashboard-run.ts';
import { isCommit, preparedFolder } from '../../support/lockstep-command.ts';

const LIMIT_MS = 180_000;
/** How long something on the page may take that depends on the run's next steps. */
const SOON = { timeout: 30_000 };
const SHOTS = fileURLToPath(new URL('../../../test-output/dashboard/', import.meta.url));
/** Legal as a folder's name, and a script if anyone took it for markup. */
const RUN_NAME = '<img src=x onerror=document.title=1>';
const VIEWS = ['Overview', 'Workers', 'History', 'Queue', 'Data', 'Playground'];

/** What is there once a view has its data. */
const SIGNS: Readonly<Record<string, string>> = {
  Overview: '.plot canvas',
  Workers: '.phases[aria-label]',
  History: '.history li',
  Queue: '.figure .note:not(:empty)',
  Data: '.checkpoints tbody tr',
  Playground: '#checkpoint option',
};

const hasBrowser = findChromium() !== null;
if (!hasBrowser) console.warn(`browser-live.test.ts: ${WITHOUT_CHROMIUM}`);

let dir = '';
let data = '';
let remove = () => {};
let browser: Browser;
let train: DashboardRun;

describe.skipIf(!hasBrowser)('the dashboard of a run', () => {
  let watched: WatchedPage;
  let page: Page;

  beforeAll(async () => {
    mkdirSync(SHOTS, { recursive: true });
    ({ dir, data, remove } = await preparedFolder());
    browser = await openBrowser();
    train = await startWithDashboard([
      ...['train', '--data', data, '--run', join(dir, RUN_NAME), '--preset', 'tiny', '--steps', '100000'],
      // Small steps, at a pace that leaves the machine to the browser.
      ...['--throttle-worker', '0:100', '1:100', '2:100', '3:100'],
      ...['--micro-batches', '6', '--micro-batch-size', '2'],
      ...['--workers', '4', '--set', 'checkpoint.every=5', '--dashboard-port', '0'],
    ]);
    await train.running.untilLogged(isCommit(6));
  }, LIMIT_MS);

  afterAll(async () => {
    await browser?.close();
    await train?.end();
    remove();
  }, LIMIT_MS);

  beforeEach(async () => {
    watched = await openPage(browser);
    ({ page } = watched);
    await page.goto(train.url);
    await page.getByText('Live', { exact: true }).waitFor(SOON);
  });

  afterEach(async () => {
    expect(watched.complaints).toEqual([]);
    expect(watched.requests.filter((address) => !address.startsWith(train.url))).toEqual([]);
    await page.context().close();
  });

  it('opens every view, by pointer and by address', { timeout: LIMIT_MS }, async () => {
    for (const name of VIEWS) {
      await page.getByRole('link', { name, exact: true }).click();
      await page.locator(`a[aria-current=page]:text-is("${name}")`).waitFor();
      const address = page.url();
      await page.reload();
      await page.locator(`a[aria-current=page]:text-is("${name}")`).waitFor();
      expect(page.url()).toBe(address);
    }
  });

  it('shows the run in words, and its curves move', { timeout: LIMIT_MS }, async () => {
    const headline = page.getByRole('heading', { level: 1 });
    await headline.filter({ hasText: /step [\d,]+ of 100,000/i }).waitFor(SOON);
    const chart = page.getByRole('img', { name: /^Loss, steps 1 to/ });
    await chart.waitFor(SOON);
    const before = await chart.locator('canvas').screenshot();
    const [words, description] = [await headline.textContent(), await chart.getAttribute('aria-label')];
    await expect.poll(() => headline.textContent(), SOON).not.toBe(words);
    await expect.poll(() => chart.getAttribute('aria-label'), SOON).not.toBe(description);
    expect(Buffer.compare(before, await chart.locator('canvas').screenshot())).not.toBe(0);
    const { step } = await ask<SeriesView>(train, 'api/series');
    const shown = /steps 1 to ([\d,]+)/.exec((await chart.getAttribute('aria-label')) ?? '')?.[1];
    expect(Math.abs(Number(shown?.replaceAll(',', '')) - step.at(-1)!)).toBeLessThan(30);
  });

  it('reads out single steps of a curve by arrow keys', { timeout: LIMIT_MS }, async () => {
    const chart = page.getByRole('img', { name: /^Loss, steps/ });
    await chart.waitFor(SOON);
    await chart.focus();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    await page
      .locator('.chart .at')
      .first()
      .filter({ hasText: /^step \d+$/ })
      .waitFor();
  });

  it('shows what is HTML in a name as text', { timeout: LIMIT_MS }, async () => {
    await page.locator('.run-name', { hasText: RUN_NAME }).waitFor(SOON);
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.title()).toContain(RUN_NAME);
  });

  it('is worked by keyboard: skip link, views, theme', { timeout: LIMIT_MS }, async () => {
    await page.keyboard.press('Tab');
    expect(await focused(page)).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate('document.activeElement.id')).toBe('main');
    await page.reload();
    await page.getByText('Live', { exact: true }).waitFor(SOON);
    for (let press = 0; press < 4; press += 1) await page.keyboard.press('Tab');
    expect(await focused(page)).toBe('Workers');
    await page.keyboard.press('Enter');
    await page.getByRole('table').first().waitFor();
    const theme = page.getByRole('button', { name: 'Switch to dark' });
    await theme.focus();
    await page.keyboard.press('Enter');
    expect(await page.evaluate('getComputedStyle(document.body).colorScheme')).toBe('dark');
    await page.reload();
    await page.getByRole('button', { name: 'Switch to light' }).waitFor();
  });

  it('lists the workers with what they do, and a timeline with its table', {
    timeout: LIMIT_MS,
  }, async () => {
    await page.goto(`${train.url}#/workers`);
    for (const name of ['worker-0', 'worker-1', 'worker-2']) {
      const row = page.getByRole('row', { name });
      await row.getByText('Training').waitFor(SOON);
      await row.getByRole('img', { name: /^Data .*Compute .*Optimizer/ }).waitFor(SOON);
      await row.getByText(/^tensors [\d.]+ [KM]iB$/).waitFor(SOON);
    }
    await page.getByRole('img', { name: /^Timeline of the last/ }).focus();
    await page.keyboard.press('ArrowRight');
    await page.getByText(/^Step [\d,]+, .*worker-0: data .*compute .*optimizer/).waitFor(SOON);
    await page.getByText('The same as a table').click();
    expect(await page.getByRole('region', { name: 'Step times' }).getByRole('row').count()).toBeGreaterThan(
      3,
    );
  });

  it('generates text with its layers, and shows a noised row', { timeout: LIMIT_MS }, async () => {
    await page.goto(`${train.url}#/playground`);
    await page.getByLabel('Text', { exact: true }).fill('The <b>river</b> flows & <script>bends</script>.');
    await page.getByRole('button', { name: 'Generate' }).click();
    const tokens = page.getByRole('group', { name: 'Generated text' }).first();
    await tokens.locator('.token').first().waitFor({ timeout: 90_000 });
    await tokens.locator('.token').first().focus();
    await page
      .getByText(/left at layer \d+ of \d+/)
      .first()
      .waitFor();
    expect(await page.locator('.tokens script, .tokens b').count()).toBe(0);
    await page.getByRole('button', { name: 'Show', exact: true }).click();
    await page.getByText('mask', { exact: true }).first().waitFor({ timeout: 90_000 });
    await shoot(page, 'playground');
  });

  it('lists checkpoints, verifies one and gives out its files', { timeout: LIMIT_MS }, async () => {
    await page.goto(`${train.url}#/data`);
    const row = page.getByRole('row', { name: /^Step \d/ }).first();
    await row.waitFor(SOON);
    await page.getByText(/^Epoch \d+, .* done$/).waitFor(SOON);
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      row.getByRole('link', { name: 'manifest.json' }).click(),
    ]);
    expect(download.suggestedFilename()).toMatch(/^step-\d+-manifest\.json$/);
    await row.getByRole('button', { name: /^Verify/ }).click();
    await page.getByText(/is whole: every byte agrees/).waitFor(SOON);
  });

  it('leads to the queue in full, which asks nothing of other hosts either', {
    timeout: LIMIT_MS,
  }, async () => {
    await page.goto(`${train.url}#/queue`);
    const name = await page.getByText(/^lockstep-/).textContent(SOON);
    await page.getByRole('link', { name: 'Open Bull Board' }).click(SOON);
    await page.getByRole('link', { name: name! }).first().waitFor(SOON);
    expect(page.url()).toBe(`${train.url}queues`);
  });

  it('looks good at every width and in both themes', { timeout: LIMIT_MS }, async () => {
    for (const [size, viewport] of [
      ['desktop', { width: 1280, height: 860 }],
      ['phone', { width: 390, height: 844 }],
    ] as const) {
      for (const colorScheme of ['light', 'dark'] as const) {
        const other = await openPage(browser, { viewport, colorScheme });
        for (const name of VIEWS) {
          await other.page.goto(`${train.url}#/${name.toLowerCase()}`);
          await other.page.getByText('Live', { exact: true }).waitFor(SOON);
          await other.page
            .locator(SIGNS[name]!)
            .first()
            .waitFor({ ...SOON, state: 'attached' });
          await shoot(other.page, `${name.toLowerCase()}-${size}-${colorScheme}`);
          const overflow = await other.page.evaluate('document.documentElement.scrollWidth - innerWidth');
          expect(overflow, `${name} is wider than the ${size}`).toBeLessThanOrEqual(0);
        }
        expect(other.complaints).toEqual([]);
        await other.page.context().close();
      }
    }
  });

  it('weighs less than 200 KB and paints within a second', { timeout: LIMIT_MS }, async () => {
    const firstPaintMs = (opened: Page) =>
      opened.evaluate<number>("performance.getEntriesByName('first-contentful-paint')[0].startTime");
    const paintsMs: number[] = [];
    // Training and other tests take all cores there are. Each try meets them at another moment, beside a page
    // of one word that meets them too: what that takes is the machine's.
    const wordsMs: number[] = [];
    while (paintsMs.length < 8 && Math.min(...paintsMs) > 500) {
      const word = await openPage(browser);
      await word.page.goto('data:text/html,word');
      await word.page.waitForFunction("performance.getEntriesByName('first-contentful-paint').length > 0");
      wordsMs.push(await firstPaintMs(word.page));
      await word.page.context().close();
      const fresh = await openPage(browser);
      const sizes: Promise<number>[] = [];
      fresh.page.on('response', (response) => {
        if (/\.(?:js|css|svg|html)$|\/$/.test(new URL(response.url()).pathname)) {
          sizes.push(
            response
              .request()
              .sizes()
              .then(({ responseBodySize }) => responseBodySize),
          );
        }
      });
      await fresh.page.goto(train.url);
      await fresh.page.getByText('Live', { exact: true }).waitFor(SOON);
      paintsMs.push(await firstPaintMs(fresh.page));
      const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
      console.log(
        `dashboard page: ${bytes} bytes on the wire, first paint ${paintsMs.at(-1)!.toFixed(0)} ms, of one word ${wordsMs.at(-1)!.toFixed(0)} ms`,
      );
      expect(sizes.length).toBeGreaterThanOrEqual(3);
      expect(bytes).toBeGreaterThan(10_000);
      expect(bytes).toBeLessThan(200_000);
      await fresh.page.context().close();
    }
    expect(Math.min(...paintsMs)).toBeLessThan(1000 + Math.min(...wordsMs));
  });

  it('shows a killed worker as lost within 3 s', { timeout: LIMIT_MS }, async () => {
    await page.goto(`${train.url}#/workers`);
    const row = page.getByRole('row', { name: 'worker-2' });
    await row.getByText('Training').waitFor(SOON);
    const { pid } = (await workerNamed('worker-2'))!;
    process.kill(pid, 'SIGKILL');
    const killedAt = performance.now();
    await row.getByText('Lost').waitFor({ timeout: 3000 });
    console.log(`a killed worker is shown as lost after ${(performance.now() - killedAt).toFixed(0)} ms`);
    await shoot(page, 'worker-lost');
    await page.goto(`${train.url}#/history`);
    const entry = page
      .getByRole('listitem')
      .filter({ hasText: /^.*Loss.*worker-2/ })
      .first();
    await entry.waitFor(SOON);
    await entry.getByRole('link').first().click();
    await page
      .getByRole('row', { name: /worker-2/ })
      .first()
      .waitFor(SOON);
  });

  it('evicts a worker after a question', { timeout: LIMIT_MS }, async () => {
    await page.goto(`${train.url}#/workers`);
    const row = page.getByRole('row', { name: 'worker-3' });
    await row.getByRole('button', { name: 'Evict worker-3' }).click(SOON);
    await page.screenshot({ path: join(SHOTS, 'evict.png') });
    await page
      .getByRole('dialog', { name: 'Evict worker-3?' })
      .getByRole('button', { name: 'Evict' })
      .click();
    await page.getByRole('status').filter({ hasText: 'worker-3' }).waitFor(SOON);
    await row.getByText('Left').waitFor(SOON);
  });

  it('drains a worker after a question, and not when that is answered with no', {
    timeout: LIMIT_MS,
  }, async () => {
    await page.goto(`${train.url}#/workers`);
    const row = page.getByRole('row', { name: 'worker-1' });
    const dialog = page.getByRole('dialog', { name: 'Drain worker-1?' });
    await row.getByRole('button', { name: 'Drain worker-1' }).click(SOON);
    expect(await focused(page)).toBe('Cancel');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect((await workerNamed('worker-1'))?.state).toBe('training');
    await row.getByRole('button', { name: 'Drain worker-1' }).click();
    await dialog.getByRole('button', { name: 'Drain' }).click();
    // Whether it was asked at all, and what became of it, are two things.
    await page.getByRole('status').filter({ hasText: 'worker-1' }).waitFor(SOON);
    try {
      await row.getByText('Left').waitFor(SOON);
    } catch (cause) {
      const { rows } = await ask<WorkersView>(train, 'api/workers');
      throw new Error(`worker-1 has not left: ${JSON.stringify(rows)}`, { cause });
    }
    expect(await row.getByRole('button').count()).toBe(0);
  });
});

async function workerNamed(name: string): Promise<WorkerRow | undefined> {
  return (await ask<WorkersView>(train, 'api/workers')).rows.find((row) => row.name === name);
}

function focused(page: Page): Promise<string | null> {
  return page.evaluate('document.activeElement.textContent');
}

async function shoot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
}
