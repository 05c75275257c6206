/**
 * A curve in characters: each cell of the terminal holds two by four dots (Unicode's braille patterns), so that
 * a few lines show a curve well. Pure.
 */

/** The bits of a braille cell by row and column of its dots. */
const DOTS = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80],
] as const;
const BRAILLE_BLANK = 0x2800;

export interface PlotOptions {
  /** Of the whole plot with its labels, in characters. */
  readonly width: number;
  readonly height: number;
}

/** Lines of text; empty without two points. `x` grows; values that are not finite are left out. */
export function textPlot(
  x: readonly number[],
  y: readonly number[],
  { width, height }: PlotOptions,
): string[] {
  const points = x.flatMap((at, index) => {
    const value = y[index]!;
    return Number.isFinite(value) ? [{ at, value }] : [];
  });
  if (points.length < 2) return [];
  const values = points.map(({ value }) => value);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const [top, bottom] = [label(high), label(low)];
  const gutter = Math.max(top.length, bottom.length);
  const columns = Math.max(4, width - gutter - 2);
  const cells = Array.from({ length: height }, () => new Uint8Array(columns));
  const across = scale(points[0]!.at, points.at(-1)!.at, columns * 2 - 1);
  const down = scale(high, low, height * 4 - 1);
  let previous: { column: number; row: number } | null = null;
  for (const { at, value } of points) {
    const dot = { column: across(at), row: down(value) };
    for (const { column, row } of line(previous ?? dot, dot)) {
      cells[row >> 2]![column >> 1]! |= DOTS[row & 3]![column & 1]!;
    }
    previous = dot;
  }
  const axis = (row: number) => (row === 0 ? top : row === height - 1 ? bottom : '').padStart(gutter);
  const drawn = cells.map((row, index) => {
    const text = Array.from(row, (bits) => String.fromCodePoint(BRAILLE_BLANK + bits)).join('');
    return `${axis(index)} ┤${text}`;
  });
  const from = String(points[0]!.at);
  const to = String(points.at(-1)!.at);
  const space = ' '.repeat(Math.max(1, columns - from.length - to.length));
  return [...drawn, `${' '.repeat(gutter + 2)}${from}${space}${to}`];
}

function scale(from: number, to: number, size: number): (value: number) => number {
  return (value) => (from === to ? Math.floor(size / 2) : Math.round(((value - from) / (to - from)) * size));
}

/** The dots from one to the other, both included. */
function* line(from: Dot, to: Dot): Generator<Dot> {
  const steps = Math.max(Math.abs(to.column - from.column), Math.abs(to.row - from.row), 1);
  for (let step = 0; step <= steps; step += 1) {
    const share = step / steps;
    yield {
      column: Math.round(from.column + share * (to.column - from.column)),
      row: Math.round(from.row + share * (to.row - from.row)),
    };
  }
}

interface Dot {
  readonly column: number;
  readonly row: number;
}

function label(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.01 || size >= 1e6)) return value.toExponential(1);
  return size >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);
}
