/** Tables of figures for a terminal: aligned text, nothing else. Pure. */
import type { Summary } from './statistics.ts';

export interface Column {
  readonly title: string;
  /** Words stand left, figures right. */
  readonly align: 'left' | 'right';
}

/** What stands where nothing was measured. */
export const NOT_MEASURED = '-';

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

/** Three significant digits, in plain notation with thousands separated: 1,230 or 12.3 or 0.0123. */
export function formatFigure(value: number): string {
  const magnitude = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  const decimals = Math.min(6, Math.max(0, 2 - magnitude));
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** `median (min..max)` */
export function formatSummary(summary: Summary | null): string {
  if (summary === null) return NOT_MEASURED;
  const { median, min, max } = summary;
  return `${formatFigure(median)} (${formatFigure(min)}..${formatFigure(max)})`;
}

/** How many times as fast as the peer; above 1 Lockstep is the faster one. */
export function formatRatio(ratio: number | null): string {
  return ratio === null ? NOT_MEASURED : ratio.toFixed(2);
}
