/** A preparation's parts on disk: what is done stays done, what is half done is never taken for whole. */
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type PrepareJob,
  type PrepareOptions,
  prepareDataset,
  type RunJobs,
} from '../../../src/data/index.ts';
import { DigestSet } from '../../../src/data/prepare/digest-set.ts';
import { dumpXml, errorOf, sampleText, temporaryFolder, writeInto } from '../../support/data-files.ts';
import { smallFileSystem } from '../../support/temporary-folder.ts';

const PAGES = Array.from({ length: 60 }, (_, index) => ({
  title: `Article ${index}`,
  // Every tenth repeats the one before.
  text: sampleText(index % 10 === 9 ? index - 1 : index, 20),
}));

function options(more: Partial<PrepareOptions> = {}): PrepareOptions {
  const folder = temporaryFolder();
  const xml = dumpXml(PAGES);
  const inputs = [
    writeInto(folder, 'a.xml', xml),
    // The same again, from a stream, with a page that is new.
    writeInto(folder, 'b.xml.gz', gzipSync(dumpXml([...PAGES, { title: 'New', text: sampleText(777, 20) }]))),
  ];
  return { inputs, outDir: join(folder, 'set'), vocabSize: 340, unitBytes: 10_000, ...more };
}

/** Runs jobs here, newest first as far as they come, and stops dead after so many. */
function runner(stopAfter = Number.POSITIVE_INFINITY): { run: RunJobs; done: PrepareJob[] } {
  const done: PrepareJob[] = [];
  const run: RunJobs = async (site, jobs, onDone) => {
    const waiting: PrepareJob[] = [];
    const work = async (job: PrepareJob) => {
      if (done.length >= stopAfter) throw new Error('the power is out');
      const documents = await site.run(site.parseJob(JSON.parse(JSON.stringify(job))));
      done.push(job);
      onDone(job, documents);
    };
    for await (const job of jobs) {
      waiting.push(job);
      if (waiting.length === 3) await work(waiting.pop()!);
    }
    for (const job of waiting.reverse()) await work(job);
  };
  return { run, done };
}

describe('a preparation', () => {
  it('drops exact duplicates, and keeps the first of them', async () => {
    const { manifest } = await prepareDataset(options());
    expect(manifest.report).toMatchObject({
      articlesRead: 121,
      articlesKept: 55,
      dropped: { duplicate: 66 },
    });
  });

  it('gives the same data set in any order of jobs, stopped anywhere and gone on with', async () => {
    const { sha256 } = await prepareDataset(options());
    const all = runner();
    expect((await prepareDataset(options(), all.run)).sha256).toBe(sha256);
    for (let stop = 1; stop < all.done.length; stop += 5) {
      const interrupted = options();
      const first = runner(stop);
      await expect(prepareDataset(interrupted, first.run)).rejects.toThrow('the power is out');
      expect(existsSync(join(interrupted.outDir, 'manifest.json'))).toBe(false);
      const second = runner();
      expect((await prepareDataset(interrupted, second.run)).sha256).toBe(sha256);
      // Not one job was done twice, and nothing of the work is left.
      expect(first.done.length + second.done.length).toBe(all.done.length);
      expect(readdirSync(interrupted.outDir).sort()).toEqual([
        'articles.json',
        'document-hashes.bin',
        'documents.bin',
        'manifest.json',
        'tokenizer.json',
        'tokens-00000.bin',
      ]);
    }
  });

  it('begins anew when an input or an option is another', async () => {
    const first = options();
    await expect(prepareDataset(first, runner(4).run)).rejects.toThrow('the power is out');
    writeFileSync(first.inputs[0]!, dumpXml(PAGES.slice(0, 30)));
    const { manifest } = await prepareDataset(first, runner().run);
    expect(manifest.report.articlesRead).toBe(91);
    const second = options();
    await expect(prepareDataset(second, runner(4).run)).rejects.toThrow('the power is out');
    const other = await prepareDataset({ ...second, minCharacters: 5000 }).catch(
      (error: Error) => error.message,
    );
    expect(other).toContain('no article is left');
  });

  it('refuses a part that lost its end', async () => {
    const interrupted = options();
    const isEncode = ({ phase }: PrepareJob) => phase === 'encode';
    const { run, done } = runner();
    const stopped: RunJobs = (site, jobs, onDone) =>
      run(site, jobs, (job, documents) => {
        onDone(job, documents);
        if (isEncode(job)) throw new Error('the power is out');
      });
    await expect(prepareDataset(interrupted, stopped)).rejects.toThrow('the power is out');
    const work = join(interrupted.outDir, '.prepare');
    const part = join(work, readdirSync(work).find((name) => name.startsWith('clean-'))!);
    truncateSync(part, readFileSync(part).length - 30);
    const error = await errorOf(() => prepareDataset(interrupted));
    expect([error.code, error.message.includes('is not')]).toEqual(['DATA_CORRUPT', true]);
    expect(done.some(isEncode)).toBe(true);
  });

  it('ends with a word when the disk is full, and leaves no data set', async () => {
    const folder = await smallFileSystem(64 * 1024);
    if (folder === null) return;
    const error = await errorOf(() => prepareDataset(options({ outDir: join(folder, 'set') })));
    expect(error.code).toBe('DISK_FULL');
    expect(existsSync(join(folder, 'set', 'manifest.json'))).toBe(false);
  });
});

it('DigestSet is a set', () => {
  const digest = fc
    .integer({ min: 0, max: 3000 })
    .map((value) => (value * 0x9e3779b1).toString(16).padStart(32, '0').slice(-32));
  fc.assert(
    fc.property(fc.array(digest, { maxLength: 4000 }), (digests) => {
      const twin = new Set<string>();
      const set = new DigestSet();
      for (const value of digests) {
        expect(set.add(value)).toBe(!twin.has(value));
        twin.add(value);
      }
      expect(set.size).toBe(twin.size);
    }),
  );
});
