import { readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../src/base/index.ts';
import { CommitLog, type HistoryRecord, readHistory } from '../../../src/history/index.ts';
import { checkpointed, committed, OPENED, recordsOf, TIME } from '../../support/history-fixtures.ts';
import { naiveLog } from '../../support/naive-history.ts';
import { smallFileSystem, temporaryFolder } from '../../support/temporary-folder.ts';

const newPath = async () => join(await temporaryFolder(), 'run', 'history.log');

async function readAll(path: string): Promise<HistoryRecord[]> {
  const records: HistoryRecord[] = [];
  for await (const record of readHistory(path)) records.push(record);
  return records;
}

describe('CommitLog', () => {
  it('gives back what was appended, after any number of openings', async () => {
    const path = await newPath();
    const records = recordsOf(6);
    for (const record of records) {
      const log = await CommitLog.open(path);
      expect(log.note).toBeNull();
      await log.append(record);
      await log.close();
    }
    expect(await readAll(path)).toEqual(records);
    expect(await readFile(path, 'utf8')).toBe(naiveLog(records));
    const log = await CommitLog.open(path);
    expect(log.history).toMatchObject({ lastStep: 6, tokens: 6 * 406, lastCheckpoint: { step: 6 } });
    for (let step = 1; step <= 6; step += 1) expect(await log.stepRecord(step)).toEqual(committed(step));
    for (const step of [0, 7, -1, 1.5]) expect(await log.stepRecord(step)).toBeNull();
    await log.close();
  });

  it('has a record on disk when append resolves, and in the order of the calls', async () => {
    const path = await newPath();
    const log = await CommitLog.open(path);
    const sizes: number[] = [];
    await Promise.all(
      recordsOf(5).map(async (record) => {
        await log.append(record);
        sizes.push(readFileSync(path).length);
      }),
    );
    expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
    expect(await log.stepRecord(5)).toEqual(committed(5));
    await log.close();
    expect(await readAll(path)).toEqual(recordsOf(5));
  });

  it('refuses a record out of sequence and stays usable', async () => {
    const path = await newPath();
    const log = await CommitLog.open(path);
    await expect(log.append(committed(1))).rejects.toThrow(InvariantError);
    await log.append(OPENED);
    await expect(log.append(committed(2))).rejects.toThrow(/step 2 committed after step 0/);
    await log.append(committed(1));
    await expect(log.append(committed(1))).rejects.toThrow(InvariantError);
    await expect(log.append({ ...committed(2), lossSum: Number.NaN })).rejects.toThrow(/lossSum/);
    await log.append(committed(2));
    await log.close();
    await log.close();
    expect(() => log.append(committed(3))).toThrow(InvariantError);
    expect(await readAll(path)).toEqual([OPENED, committed(1), committed(2)]);
  });

  it('is looked at while it is written, without a lock', async () => {
    const path = await newPath();
    const log = await CommitLog.open(path);
    await log.append(OPENED);
    expect(await readAll(path)).toEqual([OPENED]);
    await log.append(committed(1));
    expect(await readAll(path)).toHaveLength(2);
    await log.close();
    await expect(readAll(`${path}.none`)).rejects.toMatchObject({ code: 'DATA_MISSING' });
  });

  it('says so when a step has changed since it was opened', async () => {
    const path = await newPath();
    const log = await CommitLog.open(path);
    for (const record of recordsOf(3)) await log.append(record);
    const bytes = await readFile(path);
    bytes[bytes.indexOf('"step":2') + 20]! ^= 1;
    await writeFile(path, bytes);
    await expect(log.stepRecord(2)).rejects.toMatchObject({
      code: 'HISTORY_CORRUPT',
      context: { line: 3 },
    });
    await writeFile(path, '');
    await expect(log.stepRecord(3)).rejects.toMatchObject({ code: 'HISTORY_CORRUPT' });
    await log.close();
  });

  it('holds lines longer than one read, and many of them', async () => {
    const path = await newPath();
    const log = await CommitLog.open(path);
    await log.append(OPENED);
    for (let step = 1; step <= 3; step += 1) await log.append(committed(step, 25_000));
    await log.close();
    expect((await stat(path)).size).toBeGreaterThan(3 * 1024 * 1024);
    const again = await CommitLog.open(path);
    expect(again.history.lastStep).toBe(3);
    expect(await again.stepRecord(2)).toEqual(committed(2, 25_000));
    await again.close();
  });

  it('names what keeps it from opening', async () => {
    const path = join(await temporaryFolder(), 'run');
    await mkdir(path);
    await expect(CommitLog.open(path)).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect(await readdir(dirname(path))).toEqual(['run']);
  });
});

describe('a disk that is full', () => {
  it('takes no half record, and no more until the log is opened again', async ({ skip }) => {
    const disk = await smallFileSystem(256 * 1024);
    if (disk === null) return skip('needs the right to mount a tmpfs');
    const path = join(disk, 'history.log');
    const log = await CommitLog.open(path);
    await log.append(OPENED);
    let failure: unknown = null;
    while (failure === null) {
      const before = readFileSync(path);
      const step = log.history.lastStep + 1;
      const appends = [log.append(committed(step, 100)), log.append(checkpointed(step))];
      const outcomes = await Promise.allSettled(appends);
      const failed = outcomes.find(({ status }) => status === 'rejected');
      if (failed?.status !== 'rejected') continue;
      failure = failed.reason;
      expect(log.history.lastStep).toBe(outcomes[0]!.status === 'rejected' ? step - 1 : step);
      expect(readFileSync(path).subarray(0, before.length)).toEqual(before);
    }
    expect(failure).toMatchObject({
      code: 'DISK_FULL',
      context: { systemCode: 'ENOSPC', path },
      message: expect.stringMatching(/history\.log: cannot be written: no space left .* free space/),
    });
    expect(readFileSync(path).at(-1)).toBe(0x0a);
    await expect(log.append(checkpointed(0))).rejects.toBe(failure);
    const { lastStep } = log.history;
    await log.close();

    const ended: HistoryRecord[] = await readAll(path);
    expect(ended.filter(({ kind }) => kind === 'committed')).toHaveLength(lastStep);
    const again = await CommitLog.open(path);
    expect(again.note).toBeNull();
    expect(again.history.lastStep).toBe(lastStep);
    await again.append({ kind: 'resumed', fromStep: lastStep, reason: 'disk was full', time: TIME });
    await again.close();
  });
});
