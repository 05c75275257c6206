/** Comma-separated values as RFC 4180 has them: fields in double quotes may hold commas, line breaks and doubled quotes. */

export interface CsvRow {
  /** The file's line, from 1, where the row begins. */
  readonly line: number;
  readonly fields: readonly string[];
}

/** A field in quotes or as it stands, and what ends it. */
const FIELD = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;

/** The rows of `text`; CRLF ends one as LF does. Null when a quote is not closed, or stands within a field without. */
export function parseCsv(text: string): CsvRow[] | null {
  const rows: CsvRow[] = [];
  let place = 0;
  let line = 1;
  while (place < text.length) {
    const fields: string[] = [];
    const first = line;
    for (let end = ','; end === ','; ) {
      FIELD.lastIndex = place;
      const match = FIELD.exec(text);
      if (match === null) return null;
      const [all, quoted, plain = '', ending = ''] = match;
      fields.push(quoted?.replaceAll('""', '"') ?? plain);
      line += all.split('\n').length - 1;
      place += all.length;
      end = ending;
    }
    rows.push({ line: first, fields });
  }
  return rows;
}
