/** `lockstep prepare --pairs`: files of sources and targets to a data set for fine-tuning. */
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import type { DataConfig } from '../config/index.ts';
import {
  countCuts,
  type Dataset,
  loadTokenizer,
  type Manifest,
  PAIR_FIELDS,
  type PairFields,
  preparePairs,
} from '../data/index.ts';
import { formatCount, say } from './terminal.ts';

/** The members of JSON lines. */
export interface PairFieldFlags {
  readonly sourceField: string;
  readonly targetField: string;
  readonly groupField: string;
}

export interface PairFlags extends PairFieldFlags {
  readonly out: string;
  readonly vocabSize?: number;
  readonly tokenizer?: string;
  readonly force?: boolean;
}

export function addPairFieldFlags(command: Command): Command {
  return command
    .option('--source-field <name>', 'member of a JSON line that holds the source', PAIR_FIELDS.source)
    .option('--target-field <name>', 'member that holds the target', PAIR_FIELDS.target)
    .option(
      '--group-field <name>',
      'member that names a group: no group is on both sides of the validation split',
      PAIR_FIELDS.group,
    );
}

export async function preparePairFiles(inputs: readonly string[], flags: PairFlags): Promise<number> {
  const { out, vocabSize, tokenizer, force } = flags;
  const prepared = await preparePairs({
    inputs,
    fields: pairFieldsOf(flags),
    outDir: out,
    tokenizer: tokenizer === undefined ? { vocabSize: trainedSize(vocabSize) } : loadTokenizer(tokenizer),
    existing: force === true ? 'replace' : undefined,
  });
  for (const line of describePairs(out, prepared)) say(line);
  return 0;
}

function trainedSize(vocabSize: number | undefined): number {
  if (vocabSize !== undefined) return vocabSize;
  throw new LockstepError(
    'CONFIG_INVALID',
    '--pairs: give --tokenizer, that of the model to fine-tune, or --vocab-size to train one',
  );
}

export function pairFieldsOf({ sourceField, targetField, groupField }: PairFieldFlags): PairFields {
  return { source: sourceField, target: targetField, group: groupField };
}

export function describePairs(
  dir: string,
  { sha256, manifest }: { readonly sha256: string; readonly manifest: Manifest },
): string[] {
  const { tokens, vocabSize } = manifest;
  const count = formatCount(manifest.pairs?.count ?? 0);
  return [
    `${dir}: ${count} pairs, ${formatCount(tokens)} tokens of a vocabulary of ${formatCount(vocabSize)}`,
    `  ${pairLengthsText(manifest)}`,
    ...manifest.report.warnings.map((warning) => `  ${warning}`),
    `  data set ${sha256}`,
  ];
}

/** How long sources and targets are, in tokens; empty for a data set of texts. */
export function pairLengthsText({ pairs }: Manifest): string {
  if (pairs === undefined) return '';
  const sides = (['source', 'target'] as const).map((side) => {
    const { median, percentile99, longest } = pairs[side];
    return `${side} ${formatCount(median)} (median), ${formatCount(percentile99)} (99 of 100), ${formatCount(longest)} (longest)`;
  });
  return `tokens: ${sides.join('; ')}`;
}

/** What the settings cut off the pairs; null when nothing, or for a data set of texts. */
export function cutsText(dataset: Dataset, data: DataConfig): string | null {
  const { pairs } = dataset.manifest;
  if (pairs === undefined) return null;
  const { sources, targets } = countCuts(dataset.documentLengths, data);
  if (sources === 0 && targets === 0) return null;
  const { sequenceLength, targetLength } = data;
  const count = formatCount(pairs.count);
  return (
    `of ${count} pairs, ${formatCount(sources)} sources are longer than data.sequenceLength ${sequenceLength} and ` +
    `${formatCount(targets)} targets than data.targetLength ${targetLength ?? sequenceLength}: their ends are cut off`
  );
}
