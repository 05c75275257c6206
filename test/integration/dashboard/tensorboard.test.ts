/** Event files as TensorBoard itself reads them; without it, as much as can be told from the bytes. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32c } from '@node-rs/crc32';
import { expect, test } from 'vitest';
import { TensorBoardFile } from '../../../src/dashboard/index.ts';
import { committed } from '../../support/telemetry-fixtures.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { findTensorBoard, readEvents } from '../../support/tensorboard.ts';

const INSTALL_LIMIT_MS = 11 * 60_000;
const TEXT = 'Zürich <b>is</b> a town.\nIt has 😀 people.';

async function writtenFolder(): Promise<string> {
  const folder = join(await temporaryFolder(), 'tensorboard');
  const file = await TensorBoardFile.create(folder, 'host', expect.fail);
  for (let step = 1; step <= 300; step += 1) file.addCommit(committed(step), step > 8 ? 0.5 : null);
  file.addValidation(100, 7.25);
  file.addText('samples/0', 300, TEXT);
  await file.close();
  return folder;
}

test('TensorBoard reads every scalar and the text', { timeout: INSTALL_LIMIT_MS }, async (context) => {
  const found = await findTensorBoard();
  if ('reason' in found) return context.skip(`no TensorBoard from pip: ${found.reason}`);
  const { scalars, texts } = await readEvents(found.python, await writtenFolder());
  const steps = Array.from({ length: 300 }, (_, index) => index + 1);
  expect(scalars['train/loss']).toEqual(steps.map((step) => [step, Math.fround(8 / step)]));
  expect(scalars['speed/tokens_per_second']).toHaveLength(299);
  expect(scalars['speed/goodput']).toHaveLength(292);
  expect(scalars['validation/loss']).toEqual([[100, 7.25]]);
  expect(texts['samples/0']).toEqual([[300, TEXT.replace(/^/gm, '    '), 'text']]);
});

test('is a chain of records, each with the checksums of its length and its data', async () => {
  const folder = await writtenFolder();
  const [name] = await readdir(folder);
  expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\.host\.\d+$/);
  const bytes = await readFile(join(folder, name!));
  let numRecords = 0;
  for (let offset = 0; offset < bytes.length; numRecords += 1) {
    const length = Number(bytes.readBigUInt64LE(offset));
    expect(unmasked(bytes.readUInt32LE(offset + 8))).toBe(crc32c(bytes.subarray(offset, offset + 8)));
    const data = bytes.subarray(offset + 12, offset + 12 + length);
    expect(unmasked(bytes.readUInt32LE(offset + 12 + length))).toBe(crc32c(data));
    offset += 16 + length;
  }
  expect(numRecords).toBe(303);
});

/** The checksum that a TFRecord's masked one was made from. */
function unmasked(masked: number): number {
  const rotated = (masked - 0xa282ead8 + 2 ** 32) % 2 ** 32;
  return ((rotated << 15) | (rotated >>> 17)) >>> 0;
}
