/**
 * One line chart over steps: uPlot for the drawing, and around it what a canvas lacks: a legend that reads out the values under
 * the cursor, the same by arrow keys, a sentence for those who do not see it, colours that follow the theme, zoom and the way
 * back. Points come downsampled from the server; null is a gap.
 */
import uPlot from 'uplot';
import { element, setText } from '../dom.ts';
import { formatCount } from '../format.ts';
import { colorOf } from '../theme.ts';

export interface LineSeries {
  readonly label: string;
  /** A colour's name in base.css. */
  readonly color: string;
  readonly format: (value: number | null) => string;
  /** Marks each point: for values that only some steps have. */
  readonly isSparse?: boolean;
}

export interface LineChartOptions {
  readonly title: string;
  readonly series: readonly LineSeries[];
  readonly heightPx: number;
  readonly axisFormat: (value: number) => string;
  /** The y axis begins at 0; otherwise it fits the values. */
  readonly fromZero?: boolean;
  /** Data end with two more columns, least and greatest, drawn as a band in the first series' colour. */
  readonly hasBand?: boolean;
}

export type LineChartData = readonly [steps: readonly number[], ...values: (readonly (number | null)[])[]];

export class LineChart {
  readonly root: HTMLElement;
  readonly #options: LineChartOptions;
  readonly #frame: HTMLElement;
  readonly #values: HTMLElement[] = [];
  readonly #at: HTMLElement;
  readonly #reset: HTMLButtonElement;
  readonly #empty: HTMLElement;
  readonly #observer: ResizeObserver;
  #data: LineChartData;
  #plot: uPlot | null = null;
  #isZoomed = false;

  constructor(options: LineChartOptions) {
    this.#options = options;
    this.#data = [[], ...options.series.map(() => [])];
    this.#at = element('span', { class: 'at' });
    this.#reset = element('button', {
      class: 'plain small',
      text: 'Whole run',
      attributes: { type: 'button', hidden: '' },
      on: { click: () => this.#showAll() },
    });
    this.#frame = element('div', {
      class: 'plot',
      attributes: { tabindex: '0', role: 'img' },
      on: {
        keydown: (event) => this.#onKey(event as KeyboardEvent),
        blur: () => this.#plot?.setCursor({ left: -10, top: -10 }),
      },
    });
    this.#frame.style.height = `${options.heightPx}px`;
    this.#empty = element('p', { class: 'plot-empty', text: 'Nothing to draw yet: no step is committed.' });
    const legend = element(
      'ul',
      { class: 'legend' },
      ...options.series.map(({ label, color }) => {
        const swatch = element('span', { class: 'swatch line' });
        swatch.style.color = `var(--${color})`;
        const value = element('span', { class: 'legend-value' });
        this.#values.push(value);
        return element('li', {}, swatch, label, value);
      }),
    );
    this.root = element(
      'section',
      { class: 'panel chart', attributes: { 'aria-label': options.title } },
      element(
        'div',
        { class: 'panel-head' },
        element('h2', { text: options.title }),
        this.#at,
        element('div', { class: 'end' }, legend, this.#reset),
      ),
      this.#frame,
    );
    this.#frame.append(this.#empty);
    this.#observer = new ResizeObserver(() => this.#fit());
    this.#observer.observe(this.#frame);
  }

  /** Shows other data: steps in ascending order, one array of the same length for each series. */
  update(data: LineChartData): void {
    this.#data = data;
    this.#empty.hidden = data[0].length > 0;
    if (this.#plot === null) this.#draw();
    else this.#plot.setData(data as uPlot.AlignedData, !this.#isZoomed);
    if (this.#plot !== null && this.#isZoomed) this.#plot.redraw();
    this.#readOut(null);
    this.#frame.setAttribute('aria-label', this.#summary());
  }

  /** Draws anew in the present colours. */
  recolor(): void {
    this.#plot?.destroy();
    this.#plot = null;
    this.#draw();
  }

  destroy(): void {
    this.#observer.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
  }

  #draw(): void {
    const width = this.#frame.clientWidth;
    if (width === 0 || this.#data[0].length === 0) return;
    const { series, heightPx, axisFormat, fromZero, hasBand } = this.#options;
    const [muted, line] = [colorOf('muted'), colorOf('line')];
    const axis: uPlot.Axis = {
      stroke: muted,
      font: '12px system-ui, sans-serif',
      grid: { stroke: line, width: 1 },
      ticks: { show: false },
    };
    const isLone = this.#data[0].length === 1;
    this.#plot = new uPlot(
      {
        width,
        height: heightPx,
        legend: { show: false },
        padding: [10, 16, 0, 0],
        cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false, dist: 6 } },
        scales: {
          x: { time: false, range: (_plot, min, max) => (min === max ? [min - 1, max + 1] : [min, max]) },
          y: { range: (_plot, min, max) => rangeAround(min, max, fromZero === true) },
        },
        axes: [
          { ...axis, size: 30, grid: { show: false }, values: (_plot, ticks) => ticks.map(stepLabel) },
          { ...axis, size: 58, values: (_plot, ticks) => ticks.map(axisFormat) },
        ],
        series: [
          {},
          ...series.map(({ label, color, isSparse }) => ({
            label,
            stroke: colorOf(color),
            width: 1.6,
            spanGaps: true,
            points: { show: isLone || isSparse === true, size: 5 },
          })),
          ...(hasBand === true ? [BAND_EDGE, BAND_EDGE] : []),
        ],
        ...(hasBand === true
          ? {
              bands: [
                { series: [series.length + 2, series.length + 1], fill: faint(colorOf(series[0]!.color)) },
              ],
            }
          : {}),
        hooks: {
          setCursor: [(plot) => this.#readOut(plot.cursor.idx ?? null)],
          setSelect: [({ select }) => select.width > 0 && this.#setZoomed(true)],
        },
      },
      this.#data as uPlot.AlignedData,
      this.#frame,
    );
    this.#plot.over.addEventListener('dblclick', () => this.#setZoomed(false));
  }

  #fit(): void {
    if (this.#plot === null) this.#draw();
    else this.#plot.setSize({ width: this.#frame.clientWidth, height: this.#options.heightPx });
  }

  /** Writes the values at an index into the legend; without one, the newest of each series. */
  #readOut(index: number | null): void {
    const [steps, ...values] = this.#data;
    for (const [number, { format }] of this.#options.series.entries()) {
      const ofSeries = values[number] ?? [];
      const value = index === null ? newest(ofSeries) : (ofSeries[index] ?? null);
      setText(this.#values[number]!, format(value));
      // A curve that has no point is not spoken of.
      this.#values[number]!.parentElement!.hidden = steps.length > 0 && newest(ofSeries) === null;
    }
    setText(this.#at, index === null ? '' : `step ${formatCount(steps[index] ?? null)}`);
  }

  /** Left and right move the cursor by a hundredth of the width, with Shift by a point; Escape takes it away. */
  #onKey(event: KeyboardEvent): void {
    const plot = this.#plot;
    const direction = event.key === 'ArrowLeft' ? -1 : event.key === 'ArrowRight' ? 1 : 0;
    if (plot === null || (direction === 0 && event.key !== 'Escape')) return;
    event.preventDefault();
    if (direction === 0) {
      if (this.#isZoomed) this.#showAll();
      plot.setCursor({ left: -10, top: -10 });
      return;
    }
    const [steps] = this.#data;
    const stride = event.shiftKey ? 1 : Math.max(1, Math.round(steps.length / 100));
    const from = plot.cursor.idx ?? (direction > 0 ? -stride : steps.length - 1 + stride);
    const index = Math.min(steps.length - 1, Math.max(0, from + direction * stride));
    plot.setCursor({ left: plot.valToPos(steps[index]!, 'x'), top: 10 });
    const said = this.#options.series.map(
      ({ label, format }, number) => `${label} ${format(this.#data[number + 1]?.[index] as number | null)}`,
    );
    this.#frame.setAttribute('aria-label', `Step ${formatCount(steps[index]!)}: ${said.join(', ')}`);
  }

  #setZoomed(isZoomed: boolean): void {
    this.#isZoomed = isZoomed;
    this.#reset.hidden = !isZoomed;
  }

  #showAll(): void {
    this.#setZoomed(false);
    this.#plot?.setData(this.#data as uPlot.AlignedData, true);
  }

  #summary(): string {
    const [steps, ...values] = this.#data;
    const [first, last] = [steps[0], steps.at(-1)];
    if (first === undefined || last === undefined) return `${this.#options.title}: no data yet`;
    const parts = this.#options.series.map(({ label, format }, number) => {
      const known = values[number] ?? [];
      return `${label} from ${format(known.find((value) => value !== null) ?? null)} to ${format(newest(known))}`;
    });
    const range = `steps ${formatCount(first)} to ${formatCount(last)}`;
    return `${this.#options.title}, ${range}: ${parts.join('; ')}. Arrow keys read out single steps.`;
  }
}

const BAND_EDGE: uPlot.Series = { stroke: 'transparent', width: 0, spanGaps: true, points: { show: false } };

/** `rgb(r, g, b)` at an eighth of its strength. */
function faint(color: string): string {
  return color.replace(/^rgb\((.*)\)$/, 'rgba($1, 0.13)');
}

function newest(values: readonly (number | null)[]): number | null {
  return values.findLast((value) => value !== null) ?? null;
}

/** A little room above and below, also when all values are equal or there are none. */
function rangeAround(min: number | null, max: number | null, fromZero: boolean): [number, number] {
  if (min === null || max === null) return [0, 1];
  const low = fromZero ? Math.min(0, min) : min;
  const margin = (max - low || Math.abs(max) || 1) * 0.06;
  return [low === 0 ? 0 : low - margin, max + margin];
}

/** Steps are whole: uPlot offers halves when few of them are drawn. */
function stepLabel(step: number): string {
  return Number.isInteger(step) ? formatCount(step) : '';
}
