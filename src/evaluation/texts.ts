/**
 * Texts to generate from, to score and to score against: a text on each line, line by line the same in all files.
 * Trimmed and in Unicode NFC, as the pairs of a data set are.
 */
import { LockstepError } from '../base/index.ts';
import { ByteSource, readLines } from '../data/index.ts';

export interface TextFile {
  readonly file: string;
  readonly texts: readonly string[];
}

/**
 * All lines of a file. An empty one is refused unless `mayBeEmpty`: a model may generate nothing, but a source or a
 * reference is a text. Throws DATA_MISSING, and DATA_CORRUPT naming file and line.
 */
export async function readTexts(file: string, { mayBeEmpty }: { mayBeEmpty: boolean }): Promise<TextFile> {
  const texts: string[] = [];
  const bytes = new ByteSource({ file, allowTruncated: false, warn: () => {} });
  for await (const line of readLines(bytes.chunks(), file)) {
    const text = line.text.normalize('NFC').trim();
    texts.push(text);
    if (text === '' && !mayBeEmpty) {
      throw corrupt(
        file,
        `line ${texts.length} is empty: take the line out of this file and of those beside it`,
      );
    }
  }
  if (texts.length === 0) throw corrupt(file, 'holds no line: it must hold a text on each');
  return { file, texts };
}

/** For each line the texts of every reference file. Throws DATA_CORRUPT where a file has more or fewer lines. */
export function referencesBeside(beside: TextFile, files: readonly TextFile[]): string[][] {
  for (const { file, texts } of files) {
    if (texts.length === beside.texts.length) continue;
    throw corrupt(
      file,
      `has ${texts.length} lines, ${beside.file} has ${beside.texts.length}: line by line they must belong together`,
    );
  }
  return beside.texts.map((_, line) => files.map(({ texts }) => texts[line]!));
}

/** A text on each line; a line break within a text becomes a space. */
export function linesOf(texts: readonly string[]): string {
  return texts.map((text) => `${text.replace(/\s+/g, ' ').trim()}\n`).join('');
}

function corrupt(file: string, what: string): LockstepError {
  return new LockstepError('DATA_CORRUPT', `${file}: ${what}`, { context: { file } });
}
