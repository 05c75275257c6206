/**
 * The last steps by worker and phase, drawn on a canvas. Pointer and arrow keys pick a step of a worker, whose phases are then
 * read out in a line below; a table with the same figures stands behind a button.
 */
import { PHASES, type Phase, type TimelineView } from '../contract.ts';
import { element, reconcile, setAttribute, setText } from '../dom.ts';
import { formatCount, formatDuration, plural } from '../format.ts';
import { colorOf } from '../theme.ts';
import { PHASE_WORDS } from '../words.ts';
import { layOutTimeline, type TimelineLayout } from './timeline-layout.ts';

const LANE_PX = 30;
const BAR_PX = 18;
const AXIS_PX = 20;
const TABLE_STEPS = 12;

interface Pick {
  readonly step: number;
  readonly lane: number;
}

export class Timeline {
  readonly root: HTMLElement;
  readonly #canvas = element('canvas', { attributes: { 'aria-hidden': 'true' } });
  readonly #names = element('ol', { class: 'lane-names' });
  readonly #frame: HTMLElement;
  readonly #said = element('p', { class: 'said-line muted', attributes: { 'aria-live': 'polite' } });
  readonly #table = element('tbody');
  readonly #empty = element('p', { class: 'empty', text: 'No worker has reported a whole step yet.' });
  readonly #drawing: HTMLElement;
  #view: TimelineView = { workers: [], steps: [] };
  #layout: TimelineLayout = { marks: [], spans: [], cuts: [] };
  #pick: Pick | null = null;
  #colors = readColors();

  constructor() {
    this.#frame = element(
      'div',
      {
        class: 'lanes',
        attributes: { tabindex: '0', role: 'img' },
        on: {
          pointermove: (event) => this.#onPointer(event as PointerEvent),
          pointerleave: () => this.#select(null),
          keydown: (event) => this.#onKey(event as KeyboardEvent),
        },
      },
      this.#canvas,
    );
    this.#drawing = element(
      'div',
      {},
      element('div', { class: 'timeline' }, this.#names, this.#frame),
      this.#said,
      element(
        'details',
        { class: 'as-table' },
        element('summary', { text: 'The same as a table' }),
        element(
          'div',
          { class: 'scroll', attributes: { tabindex: '0', role: 'region', 'aria-label': 'Step times' } },
          element('table', {}, element('thead', {}, headRow()), this.#table),
        ),
      ),
    );
    this.root = element('div', {}, this.#drawing, this.#empty);
    new ResizeObserver(() => this.#layOut()).observe(this.#frame);
  }

  update(view: TimelineView): void {
    // The pick stays on its step while the steps move on to the left.
    const picked = this.#pick === null ? undefined : this.#view.steps[this.#pick.step]?.startedAt;
    this.#view = view;
    const step = view.steps.findIndex(({ startedAt }) => startedAt === picked);
    this.#pick = this.#pick === null || step === -1 ? null : { ...this.#pick, step };
    this.#empty.hidden = view.steps.length > 0;
    this.#drawing.hidden = view.steps.length === 0;
    reconcile(
      this.#names,
      view.workers,
      (name) => name,
      (name) => element('li', { text: name, attributes: { title: name } }),
      () => {},
    );
    this.#fillTable();
    this.#layOut();
    setAttribute(this.#frame, 'aria-label', this.#summary());
    this.#say();
  }

  recolor(): void {
    this.#colors = readColors();
    this.#draw();
  }

  #layOut(): void {
    const { clientWidth } = this.#frame;
    if (clientWidth === 0) return;
    this.#layout = layOutTimeline(this.#view, clientWidth);
    const height = this.#view.workers.length * LANE_PX + AXIS_PX;
    const ratio = devicePixelRatio;
    this.#canvas.width = Math.round(clientWidth * ratio);
    this.#canvas.height = Math.round(height * ratio);
    this.#canvas.style.height = `${height}px`;
    this.#draw();
  }

  #draw(): void {
    const context = this.#canvas.getContext('2d');
    if (context === null) return;
    const { width, height } = this.#canvas;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.scale(devicePixelRatio, devicePixelRatio);
    const lanesPx = this.#view.workers.length * LANE_PX;
    this.#drawAxis(context, lanesPx);
    this.#drawPick(context);
    for (const { x, width: length, lane, phase } of this.#layout.marks) {
      context.fillStyle = this.#colors[phase];
      const top = lane * LANE_PX + (LANE_PX - BAR_PX) / 2;
      // A hair between phases, unless that would be all there is of one.
      context.fillRect(x, top, Math.max(0.6, length - (length > 4 ? 0.8 : 0)), BAR_PX);
    }
  }

  /** A ground behind what is read out; dimming all the rest would flicker under a moving pointer. */
  #drawPick(context: CanvasRenderingContext2D): void {
    const span = this.#pick === null ? undefined : this.#layout.spans[this.#pick.step];
    if (this.#pick === null || span === undefined) return;
    const top = this.#pick.lane * LANE_PX + (LANE_PX - BAR_PX) / 2;
    context.fillStyle = this.#colors.pick;
    context.fillRect(span.x - 2, top - 5, span.width + 3, BAR_PX + 10);
    context.strokeStyle = this.#colors.text;
    context.strokeRect(span.x - 1.5, top - 4.5, span.width + 2, BAR_PX + 9);
  }

  /** Lines between steps, their numbers as far apart as they can be read, and the pauses that were cut. */
  #drawAxis(context: CanvasRenderingContext2D, lanesPx: number): void {
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'bottom';
    let freeFrom = 0;
    for (const [index, { x, width }] of this.#layout.spans.entries()) {
      context.fillStyle = this.#colors.line;
      context.fillRect(Math.round(x), 0, 1, lanesPx);
      const { step, repeated } = this.#view.steps[index]!;
      const label = `${repeated ? '↻ ' : ''}${formatCount(step)}`;
      const labelPx = context.measureText(label).width;
      const left = Math.max(0, x + (width - labelPx) / 2);
      if (left < freeFrom || left + labelPx > this.#frame.clientWidth) continue;
      freeFrom = left + labelPx + 14;
      context.fillStyle = this.#colors.text;
      context.fillText(label, left, lanesPx + AXIS_PX - 2);
    }
    context.textBaseline = 'middle';
    context.fillStyle = this.#colors.text;
    for (const { x, milliseconds } of this.#layout.cuts) {
      const label = `// ${formatDuration(milliseconds)}`;
      context.fillText(label, x - context.measureText(label).width / 2, lanesPx / 2);
    }
  }

  #onPointer({ offsetX, offsetY }: PointerEvent): void {
    const lane = Math.floor(offsetY / LANE_PX);
    const step = this.#layout.spans.findIndex(({ x, width }) => offsetX >= x && offsetX < x + width);
    this.#select(step === -1 || lane >= this.#view.workers.length ? null : { step, lane });
  }

  #onKey(event: KeyboardEvent): void {
    const [along, down] = MOVES[event.key] ?? [0, 0];
    if (along === 0 && down === 0) return;
    event.preventDefault();
    const from = this.#pick ?? { step: this.#view.steps.length - (along > 0 ? 2 : 0), lane: 0 };
    const step = Math.min(this.#view.steps.length - 1, Math.max(0, from.step + along));
    const lane = Math.min(this.#view.workers.length - 1, Math.max(0, from.lane + down));
    this.#select({ step, lane });
  }

  #select(pick: Pick | null): void {
    if (pick?.step === this.#pick?.step && pick?.lane === this.#pick?.lane) return;
    this.#pick = pick;
    this.#draw();
    this.#say();
  }

  #say(): void {
    const step = this.#pick === null ? undefined : this.#view.steps[this.#pick.step];
    if (this.#pick === null || step === undefined) {
      setText(this.#said, 'Point at a step, or use the arrow keys, to read its times.');
      return;
    }
    const worker = this.#view.workers[this.#pick.lane]!;
    const phases = step.lanes.find((lane) => lane.worker === worker)?.phases;
    const times =
      phases === undefined
        ? 'took no part'
        : PHASES.map(
            (phase) => `${PHASE_WORDS[phase].word.toLowerCase()} ${formatDuration(phases[phase])}`,
          ).join(', ');
    const total = formatDuration(step.endedAt - step.startedAt);
    const again = step.repeated ? ' (computed again)' : '';
    setText(this.#said, `Step ${formatCount(step.step)}${again}, ${total}, ${worker}: ${times}`);
  }

  #fillTable(): void {
    const rows = this.#view.steps
      .slice(-TABLE_STEPS)
      .toReversed()
      .flatMap(({ step, startedAt, lanes }) => lanes.map((lane) => ({ ...lane, step, startedAt })));
    reconcile(
      this.#table,
      rows,
      ({ worker, startedAt }) => `${startedAt} ${worker}`,
      ({ step, worker, phases }) =>
        element(
          'tr',
          {},
          element('th', { class: 'number', text: formatCount(step), attributes: { scope: 'row' } }),
          element('td', { text: worker }),
          ...PHASES.map((phase) => element('td', { class: 'number', text: formatDuration(phases[phase]) })),
        ),
      () => {},
    );
  }

  #summary(): string {
    const { workers, steps } = this.#view;
    const shares = new Map<Phase, number>(PHASES.map((phase) => [phase, 0]));
    for (const { lanes } of steps) {
      for (const { phases } of lanes) {
        for (const phase of PHASES) shares.set(phase, shares.get(phase)! + phases[phase]);
      }
    }
    const total = [...shares.values()].reduce((sum, value) => sum + value, 0) || 1;
    const words = [...shares].map(
      ([phase, time]) => `${PHASE_WORDS[phase].word} ${Math.round((100 * time) / total)} percent`,
    );
    return `Timeline of the last ${plural(steps.length, 'step')} of ${plural(workers.length, 'worker')}: ${words.join(', ')}.`;
  }
}

const MOVES: Readonly<Record<string, readonly [along: number, down: number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

function readColors(): Record<Phase | 'line' | 'text' | 'pick', string> {
  const phases = Object.fromEntries(PHASES.map((phase) => [phase, colorOf(`phase-${phase}`)]));
  // Built from all phases just above.
  const named = phases as Record<Phase, string>;
  return { ...named, line: colorOf('line'), text: colorOf('muted'), pick: colorOf('accent-soft') };
}

function headRow(): HTMLElement {
  const names = ['Step', 'Worker', ...PHASES.map((phase) => PHASE_WORDS[phase].word)];
  return element(
    'tr',
    {},
    ...names.map((name) =>
      element('th', { text: name, class: name === 'Worker' ? '' : 'number', attributes: { scope: 'col' } }),
    ),
  );
}

/** What each colour stands for; the titles say what happens in that phase. */
export function phaseLegend(): HTMLElement {
  return element(
    'ul',
    { class: 'legend' },
    ...PHASES.map((phase) => {
      const swatch = element('span', { class: 'swatch' });
      swatch.style.color = `var(--phase-${phase})`;
      const { word, meaning } = PHASE_WORDS[phase];
      return element('li', { attributes: { title: meaning } }, swatch, word);
    }),
  );
}
