/** Inputs from a server that breaks off, changes its mind and lies; and the search for the newest dump. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeRemote, download, newestDump } from '../../src/data/index.ts';
import { dumpXml, errorOf, sampleText, temporaryFolder } from '../support/data-files.ts';
import { DumpServer } from '../support/dump-server.ts';
import { run } from '../support/lockstep-command.ts';

const digest = (algorithm: string, content: Buffer | string) =>
  createHash(algorithm).update(content).digest('hex');
const CONTENT = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7919) % 251));
const NAME = 'tinywiki-20240101-pages.xml';
const SUMS = `${digest('sha1', 'other')}  tinywiki-20240101-other.xml\n${digest('sha1', CONTENT)}  ${NAME}\n`;

const optionsFor = (url: string, directory: string) => ({
  url,
  directory,
  checksum: { algorithm: 'sha1', hex: digest('sha1', CONTENT) } as const,
  retryMs: 1,
  onProgress: () => {},
});

describe('download', () => {
  it('goes on by range where the connection broke', async () => {
    const server = await DumpServer.start({ [`/${NAME}`]: CONTENT });
    server.cuts = 2;
    const path = await download(optionsFor(`${server.url}/${NAME}`, temporaryFolder()));
    expect(readFileSync(path)).toEqual(CONTENT);
    const ranges = server.requests.map((line) => Number(/bytes=(\d+)-/.exec(line)?.[1] ?? 0));
    expect(ranges).toHaveLength(3);
    expect(ranges[0]).toBe(0);
    expect(ranges[1]).toBeGreaterThan(50_000);
    expect(ranges[2]).toBeGreaterThanOrEqual(ranges[1]!);
  });

  it('goes on in another run, and leaves nothing but the file', async () => {
    const server = await DumpServer.start({ [`/${NAME}`]: CONTENT });
    const folder = temporaryFolder();
    const etag = `"${digest('md5', CONTENT)}"`;
    writeFileSync(join(folder, `${NAME}.partial`), CONTENT.subarray(0, 77_777));
    const state = { url: `${server.url}/${NAME}`, validator: etag };
    writeFileSync(join(folder, `${NAME}.partial.json`), JSON.stringify(state));
    expect(readFileSync(await download(optionsFor(state.url, folder)))).toEqual(CONTENT);
    expect(server.requests).toEqual([`GET /${NAME} bytes=77777-`]);
    expect(readdirSync(folder)).toEqual([NAME]);
    // And what lies there is not fetched again.
    await download(optionsFor(state.url, folder));
    expect(server.requests).toHaveLength(1);
  });

  it('begins anew when the file has changed since, or the server knows no ranges', async () => {
    for (const ignoresRanges of [false, true]) {
      const server = await DumpServer.start({ [`/${NAME}`]: CONTENT });
      server.ignoresRanges = ignoresRanges;
      const folder = temporaryFolder();
      writeFileSync(join(folder, `${NAME}.partial`), Buffer.alloc(1000, 1));
      const validator = ignoresRanges ? `"${digest('md5', CONTENT)}"` : '"old"';
      const state = { url: `${server.url}/${NAME}`, validator };
      writeFileSync(join(folder, `${NAME}.partial.json`), JSON.stringify(state));
      expect(readFileSync(await download(optionsFor(state.url, folder)))).toEqual(CONTENT);
    }
  });

  it('refuses and deletes what has another checksum than is published', async () => {
    const server = await DumpServer.start({ [`/${NAME}`]: Buffer.from('a lie') });
    const folder = temporaryFolder();
    const error = await errorOf(() => download(optionsFor(`${server.url}/${NAME}`, folder)));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain(`SHA1 ${digest('sha1', 'a lie')}, but ${digest('sha1', CONTENT)}`);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('gives up when nothing more comes, naming the byte', async () => {
    const server = await DumpServer.start({ [`/${NAME}`]: CONTENT });
    server.cuts = Number.POSITIVE_INFINITY;
    const folder = temporaryFolder();
    const error = await errorOf(() => download(optionsFor(`${server.url}/${NAME}`, folder)));
    expect(error.message).toMatch(/broke off at byte \d+ and does not go on .*run the same command again/);
    expect(existsSync(join(folder, NAME))).toBe(false);
    const absent = await errorOf(() => download(optionsFor(`${server.url}/no.xml`, folder)));
    expect([absent.code, absent.message.includes('answered 404')]).toEqual(['DATA_MISSING', true]);
  });
});

describe('describeRemote', () => {
  it('finds the list of checksums that lies beside the file', async () => {
    const server = await DumpServer.start({
      [`/${NAME}`]: CONTENT,
      '/tinywiki-20240101-sha1sums.txt': SUMS,
      '/plain/data.txt': 'text',
      '/plain/md5sums.txt': `${digest('md5', 'text')} *data.txt\n`,
      '/alone.txt': 'alone',
    });
    expect(await describeRemote(`${server.url}/${NAME}`)).toMatchObject({
      bytes: CONTENT.length,
      checksum: { algorithm: 'sha1', hex: digest('sha1', CONTENT) },
    });
    expect((await describeRemote(`${server.url}/plain/data.txt`)).checksum).toEqual({
      algorithm: 'md5',
      hex: digest('md5', 'text'),
    });
    expect(await describeRemote(`${server.url}/alone.txt`)).toMatchObject({ bytes: 5, checksum: null });
  });
});

/** A mirror with three dumps: the newest is being made, the one before is complete. */
async function mirror(): Promise<DumpServer> {
  const pages = Array.from({ length: 40 }, (_, index) => ({
    title: `Article ${index}`,
    text: sampleText(index, 20),
  }));
  const dump = dumpXml(pages);
  const entry = (name: string, content: string) => ({
    [name]: { size: content.length, url: `/tinywiki/20240201/${name}`, sha1: digest('sha1', content) },
  });
  const status = (state: string, files: object) =>
    JSON.stringify({ version: '0.8', jobs: { articlesmultistreamdump: { status: state, files } } });
  const name = 'tinywiki-20240201-pages.xml';
  return await DumpServer.start({
    '/tinywiki/': '<a href="20240101/">20240101/</a> <a href="20240201/">20240201/</a> <a href="20240301/">',
    '/tinywiki/20240301/dumpstatus.json': status('in-progress', {}),
    '/tinywiki/20240201/dumpstatus.json': status('done', entry(name, dump)),
    '/tinywiki/20240101/dumpstatus.json': status('done', entry('old.xml', 'old')),
    [`/tinywiki/20240201/${name}`]: dump,
  });
}

describe('--wikipedia', () => {
  it('takes the newest complete dump', async () => {
    const server = await mirror();
    const { wiki, date, files } = await newestDump('tiny', server.url);
    expect([wiki, date, files.length]).toEqual(['tinywiki', '20240201', 1]);
    expect((await errorOf(() => newestDump('none', server.url))).message).toContain('no such wiki');
    expect((await errorOf(() => newestDump('../x', server.url))).code).toBe('CONFIG_INVALID');
  });

  it('says how much it will download, and does so only when told to', async () => {
    const server = await mirror();
    server.cuts = 1;
    const out = join(temporaryFolder(), 'set');
    const args = ['prepare', '--wikipedia', 'tiny', '--dumps-url', server.url, '--out', out];
    const asked = await run([...args, '--vocab-size', '340']);
    expect(asked.code).toBe(1);
    expect(asked.stderr).toMatch(/tinywiki of 2024-02-01: 1 files, [\d.]+ KiB, into .*: pass --yes/);
    expect(server.requests.some((line) => line.includes('pages.xml'))).toBe(false);
    const told = await run([...args, '--vocab-size', '340', '--yes']);
    expect([told.stderr, told.code]).toEqual(['', 0]);
    expect(told.stdout).toMatch(/40 articles/);
    // The broken download was gone on with, and the file is kept for the next time.
    expect(
      server.requests.filter((line) => line.startsWith('GET') && line.includes('pages.xml')),
    ).toHaveLength(2);
    expect(readdirSync(join(out, 'downloads'))).toEqual(['tinywiki-20240201-pages.xml']);
  });
});
