/** Tables of figures for a terminal: aligned text, nothing else. */

export interface Column {
  readonly title: string;
  /** Words stand left, figures right. */
  readonly align: 'left' | 'right';
}

/** The title line and one line per row, columns two spaces apart, without trailing spaces. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const titles = columns.map(({ title }) => title);
  const widths = columns.map((_, index) =>
    Math.max(...[titles, ...rows].map((cells) => (cells[index] ?? '').length)),
  );
  return [titles, ...rows].map((cells) =>
    columns
      .map(({ align }, index) => {
        const cell = cells[index] ?? '';
        return align === 'left' ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!);
      })
      .join('  ')
      .trimEnd(),
  );
}
