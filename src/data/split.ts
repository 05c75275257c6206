/**
 * Which documents are held out for validation. The choice hangs on what a document is, not on its place or its text,
 * so that an article stays on its side in the next dump, however it was edited and whatever came before it; and
 * a larger share keeps those of a smaller one.
 */
import { createHash } from 'node:crypto';

export const SPLITS = ['train', 'validation'] as const;
export type Split = (typeof SPLITS)[number];

const HASH_RANGE = 2 ** 32;

/** The first 32 bits of the SHA-256 of the title, or of the text where there is none; `digest` is the text's, in hex. */
export function documentHash({ title, digest }: { readonly title: string; readonly digest: string }): number {
  const name = title.trim().normalize('NFC');
  const hash = name === '' ? digest : createHash('sha256').update(name).digest('hex');
  return Number.parseInt(hash.slice(0, 8), 16);
}

/** `validationShare` of all hashes, the lowest ones, are validation. */
export function splitOf(hash: number, validationShare: number): Split {
  return hash < validationShare * HASH_RANGE ? 'validation' : 'train';
}
