/**
 * A real browser for tests of pages: the Chromium of this system under playwright-core. Installs nothing; where there is no
 * Chromium, `findChromium` says null and tests skip. Every page is watched: what it asks of which host, what it logs.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

/** Path of a Chromium or Chrome on PATH, or null. */
export function findChromium(): string | null {
  const folders = (process.env.PATH ?? '').split(delimiter);
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    for (const folder of folders) {
      const file = join(folder, name);
      try {
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        // Not in this folder.
      }
    }
  }
  return null;
}

export const WITHOUT_CHROMIUM = 'skipped: no Chromium on PATH (Debian: apt-get install chromium)';

export async function openBrowser(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === null) throw new Error(WITHOUT_CHROMIUM);
  // The sandbox needs rights that root in a container lacks; the pages are our own.
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
}

export interface WatchedPage {
  readonly page: Page;
  /** Errors on the console and uncaught ones. */
  readonly complaints: readonly string[];
  /** Address of every request, in order. */
  readonly requests: readonly string[];
}

/** A page in a context of its own, so that no test sees another's cookies or storage. */
export async function openPage(browser: Browser, options: BrowserContextOptions = {}): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const complaints: string[] = [];
  const requests: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(`${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
  page.on('request', (request) => requests.push(request.url()));
  return { page, complaints, requests };
}
