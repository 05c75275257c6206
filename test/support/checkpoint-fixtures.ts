/** A small model's layout, made-up facts, and whole checkpoints of vectors that a step number decides. */
import { layoutOf, layoutSize, SECTIONS, type Section } from '../../src/base/index.ts';
import type {
  CheckpointFacts,
  CheckpointManifest,
  CheckpointStore,
  CheckpointWriter,
} from '../../src/checkpoint/index.ts';

import { bitDecidingPart, type CheckpointConfig, fingerprintOf, PRESETS } from '../../src/config/index.ts';

export const LAYOUT = layoutOf([
  { name: 'model.shared.weight', shape: [7, 4] },
  { name: 'model.encoder.layernorm_embedding.bias', shape: [3] },
  { name: 'final_logits_bias', shape: [1, 7] },
]);
export const SIZE = layoutSize(LAYOUT);

export const KEEP_ALL: CheckpointConfig = { every: 1, keepLast: 100, keepEvery: null };

const DATASET = 'ab'.repeat(32);
const BIT_DECIDING = bitDecidingPart(PRESETS.tiny, DATASET);

export const FACTS: CheckpointFacts = {
  runId: 'run-1',
  commit: { gradientDigest: '00ff', parametersDigest: 'ff00' },
  bitDeciding: { ...BIT_DECIDING },
  fingerprint: fingerprintOf(BIT_DECIDING),
  datasetSha256: DATASET,
  tokensSeen: 12_345,
  createdAt: '2026-11-21T12:00:00Z',
  lockstepVersion: '0.1.0',
};

/** The bytes of a section at a step: all different, among them negative and fractional numbers. */
export function sectionBytes(section: Section, step: number, size = SIZE): Uint8Array {
  const base = step * 10 + SECTIONS.indexOf(section);
  const floats = Float32Array.from({ length: size }, (_, index) => Math.sin(base + index * 0.7) * base);
  return new Uint8Array(floats.buffer);
}

export async function writeSections(writer: CheckpointWriter, size = SIZE): Promise<void> {
  for (const section of SECTIONS) await writer.write(section, 0, sectionBytes(section, writer.step, size));
}

export async function writeCheckpoint(store: CheckpointStore, step: number): Promise<CheckpointManifest> {
  const writer = await store.begin({ step, layout: LAYOUT });
  await writeSections(writer);
  return writer.commit(FACTS);
}
