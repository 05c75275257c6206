/** What `lockstep inspect` says of a data set, for a terminal and for whatever reads its lines. */
import type { Inspection, SpelledPiece } from '../data/index.ts';
import { pairLengthsText } from './prepare-pairs.ts';
import { formatBytes, formatCount, isTerminal } from './terminal.ts';

const BAR_WIDTH = 40;
/** Of each text, where there is no page to scroll. */
const SHOWN_CHARACTERS = 600;
const ARTICLES_SHOWN = 2;

export function inspectionLines(dir: string, inspection: Inspection): string[] {
  return [
    ...summaryRows(dir, inspection).map(([name, value]) => `${name.padEnd(12)}  ${value}`),
    '',
    'tokens per document',
    ...histogramLines(inspection),
    ...inspection.articles
      .slice(0, ARTICLES_SHOWN)
      .flatMap(({ title, before, after }) => [
        '',
        `article "${oneLine(title)}", before cleaning (${formatCount(before.characters)} characters)`,
        shown(before.text),
        `after (${formatCount(after.characters)} characters)`,
        shown(after.text),
      ]),
    ...inspection.noised.flatMap(({ source, target, sourceTokens, targetTokens }, index) => [
      '',
      `sample ${index + 1}: source, ${sourceTokens} tokens`,
      shown(joined(source)),
      `target, ${targetTokens} tokens`,
      shown(joined(target)),
    ]),
  ];
}

/** What both the terminal and the page say first. */
export function summaryRows(dir: string, inspection: Inspection): (readonly [name: string, value: string])[] {
  const { manifest, data, sha256, shortest, longest, trainDocuments, validationDocuments, trainSamples } =
    inspection;
  const { report, tokens, documents, vocabSize, idBytes, shards } = manifest;
  const bytes = shards.reduce((sum, shard) => sum + shard.bytes, 0);
  return [
    ['data set', dir],
    ['identity', sha256],
    ['sources', manifest.source.map(({ file }) => file).join(', ')],
    ...(manifest.pairs === undefined ? articleRows(report) : []),
    ['text', `${formatCount(report.characters)} characters`],
    [
      'tokens',
      `${formatCount(tokens)} of a vocabulary of ${formatCount(vocabSize)}, ${formatFraction(report.characters / tokens)} characters each`,
    ],
    ['shards', `${formatCount(shards.length)}, ${formatBytes(bytes)}, ${idBytes * 8}-bit ids`],
    ['documents', `${formatCount(documents)} of ${formatCount(shortest)} to ${formatCount(longest)} tokens`],
    [
      'split',
      `${formatCount(trainDocuments)} for training, ${formatCount(validationDocuments)} for validation (share ${data.validationShare})`,
    ],
    [
      'samples',
      `${formatCount(trainSamples)} of at most ${formatCount(data.sequenceLength)} tokens, packing ${data.packing}`,
    ],
    ...pairRows(inspection),
    ...report.warnings.map((warning) => ['warning', warning] as const),
  ];
}

function articleRows({ articlesRead, articlesKept, dropped: counts }: Inspection['manifest']['report']) {
  const dropped = Object.entries(counts).filter(([, count]) => count > 0);
  return [
    ['articles', `${formatCount(articlesRead)} read, ${formatCount(articlesKept)} kept`],
    [
      'dropped',
      dropped.length === 0
        ? 'none'
        : dropped.map(([reason, count]) => `${formatCount(count)} ${reason}`).join(', '),
    ],
  ] as const;
}

function pairRows({ manifest, data, cuts }: Inspection): (readonly [name: string, value: string])[] {
  if (manifest.pairs === undefined) return [];
  const limits = `sources beyond ${data.sequenceLength} and targets beyond ${data.targetLength ?? data.sequenceLength}`;
  return [
    ['pairs', `${formatCount(manifest.pairs.count)}, ${pairLengthsText(manifest)}`],
    ['cut', `${formatCount(cuts.sources)} and ${formatCount(cuts.targets)}: ${limits} tokens`],
  ];
}

function histogramLines({ lengths }: Inspection): string[] {
  const most = Math.max(...lengths.map(({ documents }) => documents));
  const ranges = lengths.map(({ from, to }) => `${formatCount(from)} to ${formatCount(to)}`);
  const rangeWidth = Math.max(...ranges.map((range) => range.length));
  const countWidth = formatCount(most).length;
  return lengths.map(({ documents }, index) => {
    const bar = '#'.repeat(Math.ceil((documents / most) * BAR_WIDTH));
    return `  ${ranges[index]!.padStart(rangeWidth)}  ${formatCount(documents).padStart(countWidth)}  ${bar}`.trimEnd();
  });
}

const joined = (pieces: readonly SpelledPiece[]) => pieces.map(({ text }) => text).join('');

const formatFraction = (value: number) => value.toFixed(2);

function shown(text: string): string {
  const cut = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  return isTerminal ? cut.split('\n').map(oneLine).join('\n') : oneLine(cut);
}

/** Without control characters: an article must not drive the terminal. */
const oneLine = (text: string) => text.replace(/\p{Cc}+/gu, ' ');
