import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { CommitLog } from '../../../src/history/index.ts';
import { OPENED } from '../../support/history-fixtures.ts';
import { BUILT } from '../../support/in-process.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const CHILD = join(import.meta.dirname, '..', '..', 'support', 'children', 'append-history.mjs');

const newPath = async () => join(await temporaryFolder(), 'history.log');

function appendForEver(path: string) {
  const child = spawn(process.execPath, [CHILD, BUILT, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  return { child, exited, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
}

describe('one process per run', () => {
  it('is kept: a second opening is refused while the first lasts', async () => {
    const path = await newPath();
    const log = await CommitLog.open(path);
    await expect(CommitLog.open(path)).rejects.toMatchObject({
      code: 'RUN_IN_USE',
      message: expect.stringMatching(
        `history\\.log\\.lock\\.[-0-9a-f]+: this run is open in process ${process.pid} on ${hostname()}; stop that one`,
      ),
    });
    const other = appendForEver(path);
    expect(await other.lines.next()).toMatchObject({ value: 'refused RUN_IN_USE' });
    await other.exited;
    await log.append(OPENED);
    await log.close();
    expect(await readdir(dirname(path))).toEqual(['history.log']);
    await (await CommitLog.open(path)).close();
  });

  it('survives kill -9: every announced step is there, the lock is taken over', {
    timeout: 60_000,
  }, async () => {
    const path = await newPath();
    let announced = 0;
    for (const steps of [1, 20, 3]) {
      const { child, exited, lines } = appendForEver(path);
      for (let count = 0; count < steps; count += 1) announced = Number((await lines.next()).value);
      child.kill('SIGKILL');
      await exited;
      const log = await CommitLog.open(path);
      expect(log.history.lastStep).toBeGreaterThanOrEqual(announced);
      expect(await log.stepRecord(announced)).toMatchObject({ lossSum: announced });
      await log.close();
    }
    expect(announced).toBeGreaterThanOrEqual(24);
  });

  it('is not fooled by a process id that is used again', async () => {
    const path = await newPath();
    const holder = await holderOf(path);
    for (const past of [{ startTicks: '1' }, { bootId: 'another' }, { pid: 2 ** 22 + 1 }]) {
      await writeFile(`${path}.lock.past`, JSON.stringify({ ...holder, ...past }));
      await (await CommitLog.open(path)).close();
      expect(await readdir(dirname(path))).toEqual(['history.log']);
    }
  });

  it('respects other hosts and does not guess at damaged locks', async () => {
    const path = await newPath();
    const holder = await holderOf(path);
    await writeFile(`${path}.lock.other`, JSON.stringify({ ...holder, host: 'elsewhere' }));
    await expect(CommitLog.open(path)).rejects.toThrow(
      /lock\.other: .* on elsewhere; stop that one first, or delete/,
    );
    await writeFile(`${path}.lock.other`, '{"pid":');
    await expect(CommitLog.open(path)).rejects.toThrow(/the file is damaged.*delete the file/);
    expect(await readdir(dirname(path))).toEqual(['history.log', 'history.log.lock.other']);
  });

  it('is settled when many take over a dead lock at once: never do two get it', async () => {
    const path = await newPath();
    const holder = await holderOf(path);
    for (let round = 0; round < 25; round += 1) {
      await writeFile(`${path}.lock.past`, JSON.stringify({ ...holder, startTicks: '1' }));
      const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => CommitLog.open(path)));
      const opened = outcomes.filter((outcome) => outcome.status === 'fulfilled');
      expect(opened.length).toBeLessThanOrEqual(1);
      await opened[0]?.value.close();
      await (await CommitLog.open(path)).close();
    }
    expect(await readdir(dirname(path))).toEqual(['history.log']);
  });
});

/** What a lock of this process says. */
async function holderOf(path: string): Promise<object> {
  const log = await CommitLog.open(path);
  const name = (await readdir(dirname(path))).find((other) => other.includes('.lock.'));
  const holder = JSON.parse(await readFile(join(dirname(path), name!), 'utf8'));
  await log.close();
  return holder;
}
