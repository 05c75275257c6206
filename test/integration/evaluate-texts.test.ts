/**
 * `lockstep evaluate` on texts that are there already, and what it says to a wrong call; the files themselves are in
 * test/unit/evaluation.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { runInProcess, succeedInProcess } from '../support/in-process.ts';
import { run } from '../support/lockstep-command.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const LIMIT_MS = 240_000;
let dir = '';
const write = (name: string, text: string | Uint8Array): string => {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
};

beforeAll(async () => {
  dir = await temporaryFolder();
  write('texts.txt', 'the cat cat sat on the mat\n\nit it it\n');
  write('first.txt', 'the cat sat on the mat\na dog\nit is\n');
  write('second.txt', 'a cat sat on a mat\nthe dog\nwhat it is\n');
});

const score = (...more: string[]) => ['evaluate', '--hypotheses', join(dir, 'texts.txt'), ...more];
const target = (name: string) => ['--target', join(dir, name)];

describe('lockstep evaluate --hypotheses', () => {
  it('scores texts against several references, with and without repeated words', {
    timeout: LIMIT_MS,
  }, async () => {
    const json = join(dir, 'scores.json');
    const files = [...target('first.txt'), ...target('second.txt')];
    const { code, stdout, stderr } = await run(score(...files, '--json', json));
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('1 of 3 texts are empty');
    expect(stdout).toMatch(/3 texts of .*texts\.txt against 2 references each/);
    const rows = stdout.split('\n').filter((line) => / (?:kept|removed) /.test(line));
    expect(rows).toHaveLength(2);
    const report = JSON.parse(readFileSync(json, 'utf8'));
    const [{ generation, scores, scoresWithoutRepeats }] = report.rows;
    expect(report.rougeStems).toBe('porter');
    expect(generation).toBeNull();
    expect(scores.repetitionRate).toBeCloseTo(3 / 10, 12);
    expect(scoresWithoutRepeats.repetitionRate).toBe(0);
    expect(scoresWithoutRepeats.rouge1.f1).toBeGreaterThan(scores.rouge1.f1);
    // The same numbers in the table.
    expect(rows[0]).toContain(` ${(100 * scores.rouge1.f1).toFixed(2)} `);
    const limited = await succeedInProcess(score(...files, '--limit', '1', '--no-stemming'));
    expect(limited).toMatch(/^1 texts of/);
  });

  it("takes WordNet's irregular forms into ROUGE's stems", { timeout: LIMIT_MS }, async () => {
    write('were.txt', 'they were oxen\n');
    write('be.txt', 'they be ox\n');
    for (const name of ['adj', 'adv']) write(`${name}.exc`, '');
    write('noun.exc', 'oxen ox\n');
    const plain = ['evaluate', '--hypotheses', join(dir, 'were.txt'), ...target('be.txt')];
    const missing = await runInProcess([...plain, '--wordnet', dir]);
    expect(missing.stderr).toMatch(/DATA_MISSING: --wordnet .*verb\.exc cannot be read/);
    write('verb.exc', 'were be\n');
    expect(await succeedInProcess([...plain, '--wordnet', dir])).toMatch(
      /kept +100\.00 +100\.00 +100\.00 +33\.33/,
    );
  });
});

describe('a mistake gets one line', () => {
  const cases: readonly [string, () => string[], RegExp][] = [
    [
      'unequal files',
      () => score('--target', write('short.txt', 'one\n')),
      /DATA_CORRUPT: .*short\.txt: has 1 lines, .*texts\.txt has 3: line by line they must belong together/,
    ],
    [
      'a flag of another mode',
      () => score(...target('first.txt'), '--threshold', '1'),
      /CONFIG_INVALID: --threshold goes with runs with --source and --target/,
    ],
    [
      'a folder that holds no weights',
      () => ['evaluate', dir, '--source', join(dir, 'first.txt'), ...target('second.txt')],
      /DATA_MISSING: .* holds no weights: name a model folder/,
    ],
    ['nothing', () => ['evaluate'], /CONFIG_INVALID: name a run, or texts with --hypotheses and --target/],
    [
      'a threshold that is none',
      () => ['evaluate', dir, '--source', join(dir, 'first.txt'), '--threshold', '0.1,,2'],
      /expected numbers of 0 or more, separated by commas/,
    ],
    [
      'a place that cannot be written',
      () => score(...target('first.txt'), '--json', join(dir, 'no', 'scores.json')),
      /DISK_FULL: --json .*scores\.json could not be written/,
    ],
  ];

  it.each(cases)('%s', { timeout: LIMIT_MS }, async (_name, args, expected) => {
    const { code, stdout, stderr } = await runInProcess(args());
    expect(code).toBe(1);
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(expected);
    // What was computed is said before a file fails.
    if (args().includes('--json')) expect(stdout).toContain('METEOR');
  });
});
