/** The benchmark of graphics cards, where there is none: that it runs to its end, so that it will where there is one. */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { BUILT } from '../support/in-process.ts';

describe('bench:gpu without a card', () => {
  it('goes through every kernel of the tensorflow engine and through training', {
    timeout: 120_000,
  }, async () => {
    const args = [join(BUILT, 'bench', 'gpu.js'), '--engine', 'tensorflow', '--allow-software'];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const kept = /^all figures: (.*)$/m.exec(stdout)?.[1];
    rmSync(kept!);
    const names = ['linear', 'layer norm', 'GELU', 'attention'];
    for (const name of [...names, 'linear gradient', 'layer norm gradient', 'attention gradient']) {
      expect(stdout, name).toMatch(new RegExp(`^${name} +[\\d.,]+ `, 'm'));
    }
    expect(stdout).toMatch(/^1 +[\d.,]+ +[\d.,]+ +[\d.,]+ /m);
  });
});
