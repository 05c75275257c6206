import { existsSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCsv } from '../../../src/data/pairs/csv.ts';
import { readPersonaChat } from '../../../src/data/pairs/persona-chat.ts';
import { errorOf, SHARED_DATA, temporaryFolder, writeInto } from '../../support/data-files.ts';

const HEAD = 'user 1 personas,user 2 personas,Best Generated Conversation';
const file = (text: string | Uint8Array) => writeInto(temporaryFolder(), 'talks.csv', text);
const read = (
  path: string,
  onLeftOut: (count: number) => void = (count) => expect.fail(`${count} left out`),
) => [...readPersonaChat(path, onLeftOut)];
const pairsOf = (text: string) => read(file(text));

describe('CSV', () => {
  it('comes back as it was written, whatever is in the fields', () => {
    const cell = fc.string({ unit: fc.constantFrom('a', ' ', ',', '"', '\n', '\r\n', 'é') });
    fc.assert(
      fc.property(
        fc.array(fc.array(cell, { minLength: 2, maxLength: 4 }), { maxLength: 5 }),
        fc.constantFrom('\n', '\r\n'),
        fc.boolean(),
        (rows, lineEnd, isEnded) => {
          const written = rows.map((row) => row.map((field) => `"${field.replaceAll('"', '""')}"`).join(','));
          const text = written.join(lineEnd) + (isEnded && rows.length > 0 ? lineEnd : '');
          const parsed = parseCsv(text)!;
          expect(parsed.map(({ fields }) => fields)).toEqual(rows);
          let line = 1;
          rows.forEach((row, index) => {
            expect(parsed[index]!.line).toBe(line);
            line += row.join('').split('\n').length;
          });
        },
      ),
    );
  });

  it('needs quotes only where a field has something to hide', () => {
    expect(parseCsv('a, b ,\n"c",,d')?.map(({ fields }) => fields)).toEqual([
      ['a', ' b ', ''],
      ['c', '', 'd'],
    ]);
  });

  it.each(['"a', 'a"b,c', '"a"b'])('is refused where a quote is astray: %s', (text) => {
    expect(parseCsv(text)).toBeNull();
  });
});

describe('dialogues', () => {
  it('make a pair of every turn that answers, with the persona of who speaks', () => {
    const talk = 'User 1: Hi!\nUser 2: Hello.\n* * *\n\nUser 1: Bye.';
    expect(pairsOf(`${HEAD}\n"I sing.\nI swim.",I ski.,"${talk}"\n`)).toEqual([
      { source: 'I ski.\nHi!', target: 'Hello.', group: talk },
      { source: 'I sing. I swim.\nHi!\nHello.', target: 'Bye.', group: talk },
    ]);
  });

  it('lose the asterisks of a model that wrote Markdown, and count what is no talk of two', () => {
    const leftOut: number[] = [];
    const rows =
      '"*User 1:* Hi!\n\n*User 2:* Hello."\na,b,"* * User 1: * * Hi!\n* User 2: So? *"\na,b,\na,b,Hi!';
    const pairs = read(file(`${HEAD}\na,b,${rows}`), (count) => leftOut.push(count));
    expect(pairs.map(({ source, target }) => [source, target])).toEqual([
      ['b\nHi!', 'Hello.'],
      ['b\nHi!', 'So?'],
    ]);
    expect(leftOut).toEqual([2]);
  });

  it('keep the last eight turns before the answer', () => {
    const turns = Array.from({ length: 12 }, (_, turn) => `User ${1 + (turn % 2)}: t${turn}`);
    const last = pairsOf(`${HEAD}\na,b,"${turns.join('\n')}"`).at(-1)!;
    expect(last.source.split('\n')).toEqual(['b', 't3', 't4', 't5', 't6', 't7', 't8', 't9', 't10']);
    expect(last.target).toBe('t11');
  });

  it.each([
    ['a quote that is not closed', `${HEAD}\na,b,"User 1: x`, 'a quote is not closed'],
    ['another head', 'a,b,c\n', 'no column "user 1 personas" (there are: a, b, c)'],
    [
      'a row that is short',
      `${HEAD}\n"a\nb",c,"User 1: x\nUser 2: y"\na,b\n`,
      'the row of line 5 lacks a column',
    ],
    ['no UTF-8', Buffer.from([0xff, 0x2c]), 'is not UTF-8'],
  ])('%s', async (_what, text, message) => {
    const error = await errorOf(() => read(file(text)));
    expect(error.code).toBe('DATA_CORRUPT');
    expect(error.message).toContain(`talks.csv: `);
    expect(error.message).toContain(message);
  });

  const real = join(SHARED_DATA, 'synthetic-persona-chat', 'Synthetic-Persona-Chat_valid.csv');
  it.skipIf(!existsSync(real))('of the published file are read (skipped: shared data are absent)', () => {
    const pairs = read(real);
    expect(new Set(pairs.map(({ group }) => group)).size).toBe(1000);
    expect(pairs.length).toBeGreaterThan(20_000);
    expect(pairs.filter(({ target }) => /^User [12]:|^$/.test(target))).toEqual([]);
  });
});
