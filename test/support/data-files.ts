/** Small inputs and data sets on disk for the tests of src/data. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { LockstepError } from '../../src/base/index.ts';

/** Data given to the project, not part of it: tests that need it skip where it is absent. */
export const SHARED_DATA = fileURLToPath(new URL('../../../shared/data', import.meta.url));

/** A folder that is deleted when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-data-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface PageFixture {
  readonly title: string;
  readonly text: string;
  readonly namespace?: number;
  readonly redirect?: string;
}

const escapeXml = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

export function pageXml({ title, text, namespace = 0, redirect }: PageFixture, id: number): string {
  const redirectTag = redirect === undefined ? '' : `<redirect title="${escapeXml(redirect)}" />`;
  return `  <page>
    <title>${escapeXml(title)}</title>
    <ns>${namespace}</ns>
    <id>${id}</id>
    ${redirectTag}
    <revision>
      <id>${1000 + id}</id>
      <text bytes="${text.length}" xml:space="preserve">${escapeXml(text)}</text>
    </revision>
  </page>
`;
}

export function dumpXml(pages: readonly PageFixture[]): string {
  return `<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">
  <siteinfo><sitename>Test</sitename></siteinfo>
${pages.map((page, index) => pageXml(page, index + 1)).join('')}</mediawiki>
`;
}

export function writeInto(folder: string, name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** `bytes` in chunks of `size`, to show that no chunk border matters. */
export async function* chunked(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

/** The LockstepError that `action` throws; fails when it throws none. */
export async function errorOf(action: () => unknown): Promise<LockstepError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof LockstepError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** Deterministic English-like text of about `sentences` sentences, different for each seed. */
export function sampleText(seed: number, sentences: number): string {
  const nouns = ['glacier', 'river', 'engine', 'worker', 'signal', 'harbour', 'theorem', 'orchard', 'comet'];
  const verbs = ['moves', 'carries', 'measures', 'follows', 'joins', 'outlasts', 'explains'];
  const ends = ['.', '.', '.', '!', '?'];
  let state = seed * 7919 + 13;
  const pick = <T>(items: readonly T[]): T => {
    state = (state * 48_271) % 2_147_483_647;
    return items[state % items.length]!;
  };
  return Array.from(
    { length: sentences },
    () =>
      `The ${pick(nouns)} ${pick(verbs)} a ${pick(nouns)} and the ${pick(nouns)} ${pick(verbs)} it${pick(ends)}`,
  ).join(' ');
}
