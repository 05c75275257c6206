/**
 * What a preparation is going to do, decided before any work and written down, so that every process and every
 * later attempt does the same: inputs with their units, and all options that have a say in the result. The
 * number of processes is none of them.
 */
import { z } from 'zod';
import { KEEPABLE } from '../clean/index.ts';
import {
  COMPRESSION_RATIO,
  compressionOf,
  type InputFormat,
  type PlannedInput,
  plannedInputSchema,
} from '../input/index.ts';

export const planSchema = z.strictObject({
  format: z.literal('lockstep-preparation'),
  /** Random: names the job queue, so that no worker mixes two preparations up. */
  id: z.string().regex(/^[0-9a-f]{16}$/),
  /** The size to train, or the SHA-256 of the tokenizer given. */
  tokenizer: z.union([z.strictObject({ vocabSize: z.int() }), z.strictObject({ sha256: z.string() })]),
  minCharacters: z.int().min(0).nullable(),
  /** What cleaning keeps beside running text. */
  keep: z.array(z.enum(KEEPABLE)),
  allowTruncated: z.boolean(),
  unitBytes: z.int().min(1),
  /** The share of articles whose words are counted for tokenizer training; 0 with a tokenizer given. */
  sampleRate: z.number().min(0).max(1),
  inputs: z.array(plannedInputSchema),
});
export type Plan = z.infer<typeof planSchema>;

/** The shortest article kept, in UTF-16 units: dumps are full of stubs, other inputs are as wanted. */
const CHARACTERS_MIN: Readonly<Record<InputFormat, number>> = {
  mediawiki: 200,
  parquet: 200,
  'json-lines': 1,
  text: 1,
};

export function minCharactersOf(plan: Plan, input: PlannedInput): number {
  return Math.max(1, plan.minCharacters ?? CHARACTERS_MIN[input.format]);
}

/** Clean text per byte of uncompressed wikitext, roughly. */
const TEXT_PER_BYTE = 0.4;

/** The share of articles that makes a sample of about `sampleBytes`, from what the files' sizes tell. */
export function sampleRateOf(inputs: readonly PlannedInput[], sampleBytes: number): number {
  const text = inputs.reduce((sum, { path, bytes, format }) => {
    const plain = bytes * (compressionOf(path) === '' && format !== 'parquet' ? 1 : COMPRESSION_RATIO);
    return sum + plain * (format === 'mediawiki' ? TEXT_PER_BYTE : 1);
  }, 0);
  return Math.min(1, sampleBytes / Math.max(1, text));
}

/** Whether work begun under `old` can be gone on with under `now`: equal but for the id, or more lenient. */
export function canResume(old: Plan, now: Omit<Plan, 'id'>): boolean {
  if (old.allowTruncated && !now.allowTruncated) return false;
  const relevant = ({ id: _, allowTruncated: __, ...rest }: Omit<Plan, 'id'> & { id?: string }) =>
    JSON.stringify(rest);
  return relevant(old) === relevant(now);
}
