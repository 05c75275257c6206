/** Figures as the benchmark's tables show them. Pure. */
import type { Summary } from './statistics.ts';

/** What stands where nothing was measured. */
export const NOT_MEASURED = '-';

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
