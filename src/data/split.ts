/**
 * Which documents are held out for validation. The choice hangs on what a document is, not on its place or its text,
 * so that an article stays on its side in the next dump, however it was edited and whatever came before it; and
 * a larger share keeps those of a smaller one.
 */
import { createHash } from 'node:crypto';

export const SPLITS = ['train', 'validation'] as const;
export type Split = (typeof SPLITS)[number];

const HASH_RANGE = 2 ** 32;

/** The first 32 bits of the SHA-256 of the title, or of the text where there is none. */
export function documentHash({ title, text }: { readonly title: string; readonly text: string }): number {
  const identity = title.trim() === '' ? text : title.trim().normalize('NFC');
  return createHash('sha256').update(identity).digest().readUInt32BE(0);
}

/** `validationShare` of all hashes, the lowest ones, are validation. */
export function splitOf(hash: number, validationShare: number): Split {
  return hash < validationShare * HASH_RANGE ? 'validation' : 'train';
}
