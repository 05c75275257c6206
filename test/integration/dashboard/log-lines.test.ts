/** The lines of a log around a moment, in files of any size. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isLogName, logLinesAround } from '../../../src/dashboard/server/log-lines.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const START = Date.parse('2026-01-01T00:00:00.000Z');

async function folderWithLog(lines: readonly string[]): Promise<string> {
  const run = await temporaryFolder();
  await mkdir(join(run, 'logs'));
  await writeFile(join(run, 'logs', 'a.log'), lines.map((line) => `${line}\n`).join(''));
  return run;
}

const lineAt = (second: number, more = {}) => {
  const time = new Date(START + 1000 * second).toISOString();
  return JSON.stringify({ level: 'info', time, run: 'r', event: 'committed', step: second, ...more });
};

test.each([0, 1, 777, 33_333, 59_998, 59_999])('second %i of a day’s log of 8 MB', async (second) => {
  const padding = { words: 'x'.repeat(60) };
  const run = await folderWithLog(Array.from({ length: 60_000 }, (_, index) => lineAt(index, padding)));
  const view = await logLinesAround(run, 'a.log', START + 1000 * second);
  const found = view!.lines.find(({ at }) => at === START + 1000 * second);
  expect(found).toMatchObject({ near: true, level: 'info', event: 'committed' });
  expect(JSON.parse(found!.fields)).toEqual({ run: 'r', step: second, ...padding });
  expect(view!.lines.length).toBeLessThanOrEqual(200);
  expect(view!.lines.filter(({ near }) => near).length).toBeLessThanOrEqual(3);
});

test('without a moment the newest lines are shown', async () => {
  const run = await folderWithLog(Array.from({ length: 1000 }, (_, index) => lineAt(index)));
  const view = await logLinesAround(run, 'a.log', null);
  expect(view!.lines).toHaveLength(200);
  expect(view!.lines.at(-1)!.at).toBe(START + 999_000);
});

test('lines that are no JSON are shown as they are, and an empty file is empty', async () => {
  const run = await folderWithLog([lineAt(1), 'Segmentation <b>fault</b>', lineAt(2)]);
  const view = await logLinesAround(run, 'a.log', START);
  expect(view!.lines[1]).toEqual({
    ...{ at: null, level: '', event: 'Segmentation <b>fault</b>', fields: '{}', near: false },
  });
  expect((await logLinesAround(await folderWithLog([]), 'a.log', START))!.lines).toEqual([]);
});

test('a log that is not there is null, and a name cannot lead out of the folder', async () => {
  expect(await logLinesAround(await temporaryFolder(), 'a.log', START)).toBeNull();
  for (const name of ['../a.log', 'a/b.log', '.log', '..log', 'a.txt', 'a.log\0', '/etc/passwd', '']) {
    expect(isLogName(name), name).toBe(false);
  }
  expect(isLogName('worker-0.log')).toBe(true);
});
