/** metrics.jsonl on a real disk: what is written comes back, damage costs a line, and a full disk costs the rest. */
import { appendFile, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { METRICS_FILE, MetricsReader, MetricsWriter } from '../../../src/dashboard/metrics-file.ts';
import type { Telemetry } from '../../../src/dashboard/view/record.ts';
import { committed, opened, sampled } from '../../support/telemetry-fixtures.ts';
import { smallFileSystem, temporaryFolder } from '../../support/temporary-folder.ts';

async function write(path: string, records: readonly Telemetry[]): Promise<void> {
  const writer = await MetricsWriter.open(path, expect.fail);
  for (const record of records) writer.append(record);
  await writer.close();
}

async function readAll(reader: MetricsReader): Promise<Telemetry[]> {
  const records: Telemetry[] = [];
  await reader.readNew((record) => records.push(record));
  return records;
}

test('records come back equal, also those of a later process, and each once', async () => {
  const path = join(await temporaryFolder(), METRICS_FILE);
  const reader = new MetricsReader(path);
  expect(await readAll(reader)).toEqual([]);
  await write(path, [opened(), committed(1)]);
  expect(await readAll(reader)).toEqual([opened(), committed(1)]);
  await write(path, [sampled(5)]);
  expect(await readAll(reader)).toEqual([sampled(5)]);
  expect(await readAll(reader)).toEqual([]);
});

test('a line that a dead process left open costs itself, not the one after it', async () => {
  const path = join(await temporaryFolder(), METRICS_FILE);
  await write(path, [opened(), committed(1)]);
  await truncate(path, (await readFile(path)).length - 9);
  await write(path, [committed(2)]);
  const reader = new MetricsReader(path);
  expect(await readAll(reader)).toEqual([opened(), committed(2)]);
  expect(reader.numSkipped).toBe(1);
});

test('a line under way is read when it is whole', async () => {
  const path = join(await temporaryFolder(), METRICS_FILE);
  const line = `${JSON.stringify(committed(1))}\n`;
  const reader = new MetricsReader(path);
  await writeFile(path, line.slice(0, 40));
  expect(await readAll(reader)).toEqual([]);
  await appendFile(path, line.slice(40));
  expect(await readAll(reader)).toEqual([committed(1)]);
  expect(reader.numSkipped).toBe(0);
});

test('no bytes whatever stop the reader, and what is whole among them is found', async () => {
  const path = join(await temporaryFolder(), METRICS_FILE);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async (noise) => {
      const line = Buffer.from(`\n${JSON.stringify(committed(1))}\n`);
      await writeFile(path, Buffer.concat([noise, line, noise]));
      expect(await readAll(new MetricsReader(path))).toEqual([committed(1)]);
    }),
  );
});

test('another run in the same folder is noticed', async () => {
  const path = join(await temporaryFolder(), METRICS_FILE);
  await write(path, [opened(), committed(1), committed(2)]);
  const reader = new MetricsReader(path);
  await readAll(reader);
  await rm(path);
  await write(path, [opened({ run: 'r2' })]);
  const records: Telemetry[] = [];
  expect(await reader.readNew((record) => records.push(record))).toBe(false);
  expect(await reader.readNew((record) => records.push(record))).toBe(true);
  expect(records).toEqual([opened({ run: 'r2' })]);
});

test('a disk that takes no more is told once, and nobody is held up', async (context) => {
  const folder = await smallFileSystem(256 * 1024);
  if (folder === null) return context.skip('this process may not mount a small disk');
  const path = join(folder, METRICS_FILE);
  const troubles: string[] = [];
  const writer = await MetricsWriter.open(path, (reason) => troubles.push(reason));
  for (let step = 1; step <= 5000; step += 1) writer.append(committed(step));
  await writer.close();
  expect(troubles).toHaveLength(1);
  expect(troubles[0]).toContain(METRICS_FILE);
  const records = await readAll(new MetricsReader(path));
  expect(records).toEqual(records.map((_, index) => committed(index + 1)));
});
