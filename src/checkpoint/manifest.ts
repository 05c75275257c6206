/**
 * `manifest.json`: what a checkpoint is, and the proof that it is whole. It is written last, so a
 * folder without one was never finished. Pure.
 *
 * The manifest vouches for itself too: `sha256` covers the canonical JSON of all its other members,
 * and `fingerprint` must be that of `bitDeciding`.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { LockstepError, messageOf } from '../base/index.ts';
import { type BitDeciding, canonicalJson, fingerprintOf } from '../config/index.ts';
import { TENSOR_FILES } from './sections.ts';

const FORMAT_VERSION = 1;

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in lower-case hex');
const digestSchema = z.string().regex(/^[0-9a-f]{1,128}$/, 'must be a digest in lower-case hex');

const factsShape = {
  runId: z.string().min(1),
  /** The digests that the votes of this step agreed on; null at step 0, which nobody voted for. */
  commit: z.strictObject({ gradientDigest: digestSchema, parametersDigest: digestSchema }).nullable(),
  /** The part of the configuration that decides the bits, as `bitDecidingPart` of src/config gives it. */
  bitDeciding: z.record(z.string(), z.unknown()),
  fingerprint: sha256Schema,
  /** SHA-256 of the data set's manifest. */
  datasetSha256: sha256Schema,
  /** Real tokens of all steps up to and including this one. */
  tokensSeen: z.int().min(0),
  createdAt: z.iso.datetime(),
  lockstepVersion: z.string().min(1),
};

const bodySchema = z.strictObject({
  formatVersion: z.literal(FORMAT_VERSION),
  /** The number of steps taken to get to these weights. */
  step: z.int().min(0),
  ...factsShape,
  /** SHA-256 over the little-endian bytes of the flat parameter vector alone, without any header. */
  weightsSha256: sha256Schema,
  files: z.array(z.strictObject({ name: z.enum(TENSOR_FILES), bytes: z.int().min(0), sha256: sha256Schema })),
});
const manifestSchema = bodySchema.extend({ sha256: sha256Schema });

/** What the caller knows of a checkpoint; the writer adds what it measured. */
export type CheckpointFacts = z.infer<z.ZodObject<typeof factsShape>>;
export type CheckpointManifest = z.infer<typeof manifestSchema>;
export type ManifestFile = CheckpointManifest['files'][number];
export type ManifestBody = Omit<CheckpointManifest, 'sha256' | 'formatVersion'>;

/** Adds version and self-checksum. Facts that do not fit the schema throw CHECKPOINT_INVALID. */
export function sealManifest(body: ManifestBody, path: string): CheckpointManifest {
  const versioned = { formatVersion: FORMAT_VERSION, ...body } as const;
  return check({ ...versioned, sha256: checksumOf(versioned) }, path);
}

export function encodeManifest(manifest: CheckpointManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** Parses and checks the text of a manifest; throws CHECKPOINT_INVALID naming `path` and the field. */
export function parseManifest(text: string, path: string): CheckpointManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(path, `is not JSON (${messageOf(error)})`, error);
  }
  return check(value, path);
}

function check(value: unknown, path: string): CheckpointManifest {
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(path, `${issue.path.join('.') || 'manifest'}: ${issue.message}`);
  }
  const manifest = parsed.data;
  const { sha256, ...body } = manifest;
  const checksum = checksumOf(body);
  if (checksum !== sha256) throw invalid(path, `sha256: ${sha256} recorded, ${checksum} found`);
  // The record came from `bitDecidingPart`; a fingerprint depends on its JSON only, not on its type.
  const fingerprint = fingerprintOf(manifest.bitDeciding as unknown as BitDeciding);
  if (fingerprint !== manifest.fingerprint) {
    throw invalid(path, `fingerprint: ${manifest.fingerprint} recorded, ${fingerprint} found`);
  }
  const names = manifest.files.map(({ name }) => name);
  if (names.join() !== TENSOR_FILES.join()) {
    throw invalid(path, `files: lists [${names.join(', ')}] instead of [${TENSOR_FILES.join(', ')}]`);
  }
  return manifest;
}

function checksumOf(body: object): string {
  return createHash('sha256').update(canonicalJson(body)).digest('hex');
}

function invalid(path: string, what: string, cause?: unknown): LockstepError {
  return new LockstepError('CHECKPOINT_INVALID', `${path}: ${what}; take another checkpoint`, {
    context: { path },
    cause,
  });
}
