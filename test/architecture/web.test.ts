/**
 * The dashboard's pages: text never becomes markup, nothing comes from elsewhere, and of the server they know its contract
 * only, as types. What the browser tests see from outside is kept here in the source.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { withoutComments } from '../support/source-files.ts';

const WEB = join(import.meta.dirname, '..', '..', 'web');
const files = readdirSync(WEB, { recursive: true, encoding: 'utf8' })
  .filter((path) => /\.(?:ts|css|html|js|svg)$/.test(path))
  .map((path) => ({ path, text: readFileSync(join(WEB, path), 'utf8') }));
const scripts = files
  .filter(({ path }) => /\.[tj]s$/.test(path) && path !== 'vite.config.ts')
  .map(({ path, text }) => ({ path, code: withoutComments(text) }));

describe('the pages', () => {
  test('make no markup of text, and no code', () => {
    const forbidden =
      /\.(?:innerHTML|outerHTML|srcdoc)\b|insertAdjacentHTML|document\.write|\beval\(|new Function\b|DOMParser|setAttribute\('on/;
    expect(scripts.filter(({ code }) => forbidden.test(code)).map(({ path }) => path)).toEqual([]);
  });

  test('load nothing from elsewhere', () => {
    // The names of XML namespaces are addresses that nobody asks.
    const wrong = files.flatMap(({ path, text }) =>
      [...text.matchAll(/(?:https?:)?\/\/(?!www\.w3\.org\/)[\w-]+\.[\w.-]+/g)].map(
        ([found]) => `${path}: ${found}`,
      ),
    );
    expect(wrong).toEqual([]);
  });

  test('hold no script or style within the HTML', () => {
    const html = files.find(({ path }) => path === 'index.html')!.text;
    expect(html).not.toMatch(/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/);
  });

  test('know the contract of the server, as types, and nothing else of it', () => {
    const imports = scripts.flatMap(({ path, code }) =>
      [...code.matchAll(/^(?:import|export)\b[^;]*?from\s*'([^']*\/src\/[^']+)'/gm)].map(
        ([statement, target]) => [path, target, /^(?:import|export) type\b/.test(statement)] as const,
      ),
    );
    expect(imports).toEqual([
      ['contract.ts', '../src/dashboard/contract.ts', true],
      ['contract.ts', '../src/dashboard/contract.ts', true],
    ]);
  });

  test('were found', () => {
    expect(scripts.length).toBeGreaterThan(20);
  });
});
