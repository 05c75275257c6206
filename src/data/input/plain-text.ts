/**
 * Plain text. Each run of non-blank lines is a paragraph, and two or more blank lines end a document.
 * Text with headings in the manner of WikiText is read as that instead: ` = Title = ` opens a document,
 * ` = = Section = = ` is dropped, and each line is a paragraph, whatever the blank lines between.
 * So that memory stays bounded, a document also ends at the first paragraph end past 1 M characters.
 */
import type { SourceRecord } from '../article.ts';
import { readLines } from './lines.ts';

const DOCUMENT_CHARACTERS = 1_000_000;
const HEADING = /^\s*(=(?: ?=)*)\s+(\S.*?)\s+\1\s*$/;

/** Throws DATA_CORRUPT when the file is not UTF-8. */
export async function* readPlainText(
  chunks: AsyncIterable<Buffer>,
  file: string,
): AsyncGenerator<SourceRecord> {
  let title = '';
  let paragraphs: string[] = [];
  let lines: string[] = [];
  let characters = 0;
  let blankLines = 0;
  let hasHeadings = false;
  let documents = 0;

  const endParagraph = () => {
    if (lines.length > 0) paragraphs.push(lines.join(' '));
    lines = [];
  };
  const endDocument = (): SourceRecord[] => {
    endParagraph();
    const text = paragraphs.join('\n\n');
    paragraphs = [];
    characters = 0;
    if (text === '') return [];
    documents += 1;
    return [{ kind: 'article', article: { id: String(documents), title, text, markup: 'paragraphs' } }];
  };

  for await (const { text } of readLines(chunks, file)) {
    const line = text.trim();
    if (line === '') {
      endParagraph();
      blankLines += 1;
      if (characters > DOCUMENT_CHARACTERS) yield* endDocument();
      continue;
    }
    const heading = HEADING.exec(text);
    if (heading !== null) {
      if (heading[1] === '=') {
        yield* endDocument();
        title = heading[2]!;
      } else {
        endParagraph();
      }
      hasHeadings = true;
      continue;
    }
    if (blankLines >= 2 && !hasHeadings) yield* endDocument();
    blankLines = 0;
    if (characters > 2 * DOCUMENT_CHARACTERS) yield* endDocument();
    lines.push(line);
    characters += line.length + 1;
    if (hasHeadings) endParagraph();
  }
  yield* endDocument();
}
