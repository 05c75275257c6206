import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LockstepError } from '../../../src/base/index.ts';
import { encodeManifest, parseManifest, sealManifest } from '../../../src/checkpoint/manifest.ts';
import { FACTS } from '../../support/checkpoint-fixtures.ts';

const BODY = {
  step: 12,
  ...FACTS,
  weightsSha256: '11'.repeat(32),
  files: [
    { name: 'model.safetensors' as const, bytes: 10, sha256: '22'.repeat(32) },
    { name: 'optimizer.safetensors' as const, bytes: 20, sha256: '33'.repeat(32) },
  ],
};
const MANIFEST = sealManifest(BODY, 'manifest.json');
const TEXT = encodeManifest(MANIFEST);

describe('manifest', () => {
  it('comes back as it was written', () => {
    expect(parseManifest(TEXT, 'manifest.json')).toEqual(MANIFEST);
    expect(MANIFEST).toMatchObject(BODY);
  });

  it('notices any damaged byte that changes what it says, and any cut', () => {
    fc.assert(
      fc.property(fc.nat(TEXT.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = Buffer.from(TEXT);
        bytes[at]! ^= flip;
        let parsed: unknown;
        try {
          parsed = parseManifest(bytes.toString('utf8'), 'm');
        } catch (error) {
          expect(error).toBeInstanceOf(LockstepError);
          return;
        }
        expect(parsed).toEqual(MANIFEST);
      }),
      { numRuns: 500 },
    );
    for (let length = 0; length < TEXT.length - 1; length += 7) {
      expect(() => parseManifest(TEXT.slice(0, length), 'm')).toThrow(LockstepError);
    }
  });

  it('names the file and the field', () => {
    const edited = (from: string, to: string) => () =>
      parseManifest(TEXT.replace(from, to), 'dir/manifest.json');
    expect(edited('"step": 12', '"step": -12')).toThrow(/^dir\/manifest\.json: step: .*; take another/);
    expect(edited('"step": 12', '"step": 13')).toThrow(/sha256: [0-9a-f]{64} recorded/);
    expect(edited('"formatVersion": 1', '"formatVersion": 2')).toThrow(/formatVersion/);
  });

  it('must list both files and carry the fingerprint of its configuration', () => {
    expect(() => sealManifest({ ...BODY, files: BODY.files.slice(1) }, 'm')).toThrow(/files: lists/);
    expect(() => sealManifest({ ...BODY, bitDeciding: { seed: 2 } }, 'm')).toThrow(/fingerprint/);
  });
});
