/** `lockstep inspect`: the facts of a data set in a terminal, and as a page that nothing in the data can take over. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { lengthBins } from '../../src/data/index.ts';
import { findChromium, openBrowser, openPage, WITHOUT_CHROMIUM } from '../support/browser.ts';
import { sampleText, temporaryFolder, writeInto } from '../support/data-files.ts';
import { runInProcess, succeedInProcess } from '../support/in-process.ts';
import { succeed } from '../support/lockstep-command.ts';

const LIMIT_MS = 120_000;
const HOSTILE_TITLE = `<script>document.title = 'taken'</script>`;
const HOSTILE_TEXT = `"><img src="http://example.invalid/x" onerror="document.title='taken'"> & <b>bold</b> \u001b[31mred`;

/** Six articles, so that all of them are among the samples. */
async function prepared(): Promise<string> {
  const folder = temporaryFolder();
  const lines = Array.from({ length: 6 }, (_, seed) =>
    JSON.stringify({
      title: seed === 0 ? HOSTILE_TITLE : `Article ${seed}`,
      text: `${seed === 0 ? HOSTILE_TEXT : ''} ${sampleText(seed, 12)}`,
    }),
  );
  const data = join(folder, 'set');
  const input = writeInto(folder, 'a.jsonl', lines.join('\n'));
  await succeedInProcess(['prepare', input, '--out', data, '--vocab-size', '330']);
  return data;
}

describe('lockstep inspect', () => {
  it('says what there is, with the noise of the settings given', { timeout: LIMIT_MS }, async () => {
    const data = await prepared();
    const manifest = JSON.parse(readFileSync(join(data, 'manifest.json'), 'utf8'));
    const settings = ['--set', 'data.validationShare=0.4', '--set', 'data.packing=packed'];
    const text = await succeed(['inspect', data, '--samples', '2', ...settings]);
    expect(text).toContain('articles      6 read, 6 kept');
    expect(text).toContain(`tokens        ${manifest.tokens.toLocaleString('en-US')} of a vocabulary of 330`);
    expect(text).toMatch(/split {9}\d for training, [1-5] for validation \(share 0\.4\)/);
    expect(text).toContain('packing packed');
    expect(text).toMatch(/256 to 511 {2}\d {2}#+/);
    expect(text).toContain('<mask>');
    expect(text.match(/^sample \d: source/gm)).toHaveLength(2);
    // Nothing in an article reaches the terminal as an order to it.
    expect(text.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
    const plain = await succeedInProcess([
      'inspect',
      data,
      '--set',
      'data.noise.maskRatio=0',
      '--set',
      'data.noise.sentencePermutation=0',
    ]);
    expect(plain).not.toContain('<mask>');
  });

  it('writes one page in which the data are text, whatever they say', { timeout: LIMIT_MS }, async ({
    skip,
  }) => {
    if (findChromium() === null) skip(WITHOUT_CHROMIUM);
    const data = await prepared();
    const file = join(temporaryFolder(), 'page.html');
    await succeedInProcess(['inspect', data, '--html', file]);
    const browser = await openBrowser();
    onTestFinished(() => browser.close());
    const { page, complaints, requests } = await openPage(browser);
    await page.goto(pathToFileURL(file).href);
    expect(requests).toEqual([pathToFileURL(file).href]);
    expect(complaints).toEqual([]);
    expect(await page.title()).toMatch(/^Data set [0-9a-f]{12}$/);
    expect(await page.locator('h3', { hasText: HOSTILE_TITLE }).count()).toBe(1);
    expect(await page.locator('img, script, b').count()).toBe(0);
    expect(
      await page.locator('pre', { hasText: '"><img src="http://example.invalid/x"' }).count(),
    ).toBeGreaterThan(0);
    expect(await page.locator('mark', { hasText: '<mask>' }).count()).toBeGreaterThan(0);
    expect(await page.locator('.pair').count()).toBe(6 + 4);
    const bars = await page.locator('.bar').evaluateAll((nodes) => nodes.map((node) => node.clientWidth));
    expect(Math.max(...bars)).toBeGreaterThan(100);
    // Nothing is cut off at the width of a telephone.
    await page.setViewportSize({ width: 390, height: 800 });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
  });

  it('names what is wrong in one line', { timeout: LIMIT_MS }, async () => {
    const data = await prepared();
    const complaint = async (...args: string[]) => {
      const { code, stderr } = await runInProcess(['inspect', ...args]);
      expect(code).toBe(1);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      return stderr;
    };
    expect(await complaint(join(data, 'nowhere'))).toContain('DATA_MISSING');
    expect(await complaint(data, '--html', join(data, 'no', 'page.html'))).toContain('DISK_FULL: --html');
    expect(await complaint(data, '--run', join(data, 'run'))).toContain('holds no run');
    writeFileSync(join(data, 'articles.json'), '[{}]  ');
    expect(await complaint(data)).toMatch(/DATA_CORRUPT: .*articles\.json/);
    truncateSync(join(data, 'document-hashes.bin'), 3);
    expect(await complaint(data)).toMatch(/DATA_CORRUPT: .*(articles|document-hashes)/);
  });
});

describe('length bins', () => {
  it('double, hold every document once, and begin where there is one', () => {
    expect(lengthBins([5, 4, 9, 31])).toEqual([
      { from: 4, to: 7, documents: 2 },
      { from: 8, to: 15, documents: 1 },
      { from: 16, to: 31, documents: 1 },
    ]);
    expect(lengthBins([])).toEqual([]);
  });
});
