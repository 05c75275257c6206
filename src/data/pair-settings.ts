/** What a run's data settings come to on a data set of pairs, and what they cut off it. */
import { LockstepError } from '../base/index.ts';
import { type DataConfig, TARGET_LENGTH_MIN } from '../config/index.ts';
import type { Manifest } from './manifest.ts';
import { sourceTokensMax, targetTokensMax } from './samples.ts';

/** The learned target length is a multiple of this: shapes that repeat are compiled once by engines that compile. */
const TARGET_LENGTH_STEP = 4;

/**
 * `data` with its target length settled: for pairs without one, what 99 of 100 targets need with `</s>`, at most
 * `maxPositions`. Texts keep null. Throws CONFIG_INVALID when pairs are to be packed.
 */
export function settledDataConfig(data: DataConfig, manifest: Manifest, maxPositions: number): DataConfig {
  requireUnpacked(manifest, data);
  const { pairs } = manifest;
  if (pairs === undefined || data.targetLength !== null) return data;
  const needed = TARGET_LENGTH_STEP * Math.ceil((pairs.target.percentile99 + 1) / TARGET_LENGTH_STEP);
  return { ...data, targetLength: Math.min(Math.max(needed, TARGET_LENGTH_MIN), maxPositions) };
}

/** Throws CONFIG_INVALID when pairs are to be packed. */
export function requireUnpacked(manifest: Manifest, { packing }: Pick<DataConfig, 'packing'>): void {
  if (manifest.pairs === undefined || packing === 'documents') return;
  throw new LockstepError(
    'CONFIG_INVALID',
    `data.packing is "${packing}": the data set holds pairs, each a sample of its own; set it to "documents"`,
    { context: { field: 'data.packing', value: packing } },
  );
}

export interface CutCounts {
  readonly sources: number;
  readonly targets: number;
}

/** How many sources and targets of a data set of pairs are longer than the settings allow, and are cut. */
export function countCuts(documentLengths: Uint32Array, data: DataConfig): CutCounts {
  const limits = [sourceTokensMax(data), targetTokensMax(data)] as const;
  const cuts = [0, 0] as [number, number];
  for (const [index, length] of documentLengths.entries()) {
    const side = index % 2 === 0 ? 0 : 1;
    if (length > limits[side]) cuts[side] += 1;
  }
  return { sources: cuts[0], targets: cuts[1] };
}
