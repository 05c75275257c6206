/** The table of errors and its document are one: docs/ERRORS.md lists every code and nothing else. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ERROR_CODES } from '../../src/base/index.ts';
import { sourceFiles } from '../support/source-files.ts';

const DOCUMENT = join(import.meta.dirname, '..', '..', 'docs', 'ERRORS.md');
const codes = Object.keys(ERROR_CODES).sort();
const files = sourceFiles();

/** The codes that head a table row or a section: "| `CODE` | ...", "## CODE". */
function documented(): string[] {
  const text = readFileSync(DOCUMENT, 'utf8');
  return [...text.matchAll(/^(?:\|\s*|#+\s*)`?([A-Z]+(?:_[A-Z]+)+|DIVERGED)`?\s*(?:\||$)/gm)]
    .map(([, code]) => code!)
    .sort();
}

describe('error codes', () => {
  test('docs/ERRORS.md lists each once and no other', () => {
    expect(documented()).toEqual(codes);
  });

  test('each is used somewhere: a code that nothing throws tells users of trouble that cannot be', () => {
    const unused = codes.filter(
      (code) =>
        !files.some(({ path, code: text }) => path !== 'base/errors.ts' && text.includes(`'${code}'`)),
    );
    expect(unused).toEqual([]);
  });
});
