/**
 * Is it learning, is it fast, is anything wrong: the run in one sentence, what to do if something is amiss, the figures, and
 * the curves over steps.
 */
import { LineChart } from '../charts/line-chart.ts';
import type { HistoryEntry, Overview, Problem } from '../contract.ts';
import { element, reconcile, setText } from '../dom.ts';
import {
  formatAge,
  formatCount,
  formatDuration,
  formatLoss,
  formatRate,
  formatShare,
  formatShort,
  formatTick,
  formatTime,
  plural,
} from '../format.ts';
import type { LiveRun } from '../live.ts';
import { addressOf } from '../router.ts';
import { alignLosses } from '../series.ts';
import type { View } from '../view.ts';
import { KIND_WORDS, RUN_TONES } from '../words.ts';
import { Figures } from './figures.ts';

const RECENT_SHOWN = 8;

export class OverviewPage implements View {
  readonly root: HTMLElement;
  readonly #dot = element('span', { class: 'dot large' });
  readonly #headline = element('h1', { text: 'Looking for the run …' });
  readonly #about = element('p', { class: 'muted about' });
  readonly #progress = element('span');
  readonly #progressBar = element('div', {
    class: 'bar',
    attributes: { role: 'progressbar', 'aria-label': 'Steps done', 'aria-valuemin': '0' },
  });
  readonly #problems = element('div', { class: 'stack problems', attributes: { 'aria-live': 'polite' } });
  readonly #figures = new Figures([
    ...['Training loss', 'Validation loss', 'Tokens per second', 'Goodput', 'Time left', 'Last checkpoint'],
  ]);
  readonly #loss = new LineChart({
    title: 'Loss',
    series: [
      { label: 'Training', color: 'series-train', format: formatLoss },
      { label: 'Validation', color: 'series-validation', format: formatLoss, isSparse: true },
    ],
    heightPx: 280,
    axisFormat: (value) => String(Number(value.toPrecision(4))),
    hasBand: true,
  });
  readonly #rate = new LineChart({
    title: 'Learning rate',
    series: [{ label: 'Rate', color: 'series-rate', format: formatRate }],
    heightPx: 170,
    axisFormat: formatRate,
    fromZero: true,
  });
  readonly #speed = new LineChart({
    title: 'Speed',
    series: [{ label: 'Tokens per second', color: 'series-speed', format: formatShort }],
    heightPx: 170,
    axisFormat: formatTick,
    fromZero: true,
  });
  readonly #recent = element('ol', { class: 'recent' });
  readonly #noRecent = element('p', { class: 'empty', text: 'Nothing but commits and checkpoints so far.' });
  #drawn: unknown = null;

  constructor() {
    this.#progressBar.append(this.#progress);
    this.root = element(
      'div',
      { class: 'stack' },
      element(
        'div',
        { class: 'hero' },
        element('div', { class: 'hero-line' }, this.#dot, this.#headline),
        this.#about,
        this.#progressBar,
      ),
      this.#problems,
      this.#figures.root,
      this.#loss.root,
      element('div', { class: 'columns' }, this.#speed.root, this.#rate.root),
      element(
        'section',
        { class: 'panel' },
        element(
          'div',
          { class: 'panel-head' },
          element('h2', { text: 'Latest events' }),
          element(
            'div',
            { class: 'end' },
            element('a', { text: 'Whole history', attributes: { href: addressOf('history') } }),
          ),
        ),
        this.#recent,
        this.#noRecent,
      ),
    );
  }

  show(): void {}

  hide(): void {}

  update({ overview, series, recent, hasRun }: LiveRun): void {
    if (overview === null) {
      if (!hasRun) {
        setText(this.#headline, 'No run yet');
        setText(this.#about, 'The folder holds no run. This page shows it as soon as one begins.');
      }
      return;
    }
    this.#showRun(overview);
    this.#showFigures(overview);
    reconcile(this.#problems, overview.problems, keyOfProblem, createProblem, () => {});
    const entries = recent.slice(0, RECENT_SHOWN);
    reconcile(this.#recent, entries, ({ id }) => String(id), createRecent, updateRecent);
    this.#noRecent.hidden = entries.length > 0;
    if (this.#drawn === series) return;
    this.#drawn = series;
    const losses = alignLosses(series);
    this.#loss.update([losses.step, losses.loss, losses.validation, losses.low, losses.high]);
    this.#rate.update([series.step, series.learningRate]);
    this.#speed.update([series.step, series.tokensPerSecond]);
  }

  recolor(): void {
    for (const chart of [this.#loss, this.#rate, this.#speed]) chart.recolor();
  }

  #showRun({ run, state, headline, step, totalSteps, underWay, generation }: Overview): void {
    this.#dot.dataset.tone = RUN_TONES[state];
    setText(this.#headline, headline.charAt(0).toUpperCase() + headline.slice(1));
    const parts = [
      `${run.preset} preset${run.parameters === null ? '' : ` of ${formatShort(run.parameters)} parameters`}`,
      run.engine,
      `generation ${generation}`,
      `started ${formatTime(run.startedAt, new Date())}`,
    ];
    if (underWay !== null) {
      const attempt = underWay.attempt > 1 ? `, attempt ${underWay.attempt}` : '';
      const doing =
        underWay.phase === 'reducing' ? 'reducing' : `${underWay.slotsDone} of ${underWay.slots} slots`;
      parts.push(`step ${formatCount(underWay.step)}: ${doing}${attempt}`);
    }
    setText(this.#about, parts.join('  ·  '));
    this.#progress.style.width = `${totalSteps === 0 ? 0 : (100 * step) / totalSteps}%`;
    this.#progressBar.setAttribute('aria-valuemax', String(totalSteps));
    this.#progressBar.setAttribute('aria-valuenow', String(step));
  }

  #showFigures(overview: Overview): void {
    const { lastCheckpoint, stepMs, totalSteps, step, leftMs } = overview;
    const now = Date.now();
    this.#figures.update([
      { value: formatLoss(overview.loss), note: 'nats per token' },
      {
        value: formatLoss(overview.validationLoss),
        note: overview.validationLoss === null ? 'none computed yet' : 'nats per held-out token',
      },
      {
        value: formatShort(overview.tokensPerSecond),
        note: stepMs === null ? 'no step yet' : `${formatDuration(stepMs)} a step`,
      },
      { value: formatShare(overview.goodput), note: 'of a smooth run’s pace' },
      {
        value: overview.state === 'completed' ? 'Done' : formatDuration(leftMs),
        note: `${plural(Math.max(0, totalSteps - step), 'step')} to go`,
      },
      lastCheckpoint === null
        ? { value: 'None', note: 'not written yet' }
        : { value: `Step ${formatCount(lastCheckpoint.step)}`, note: formatAge(now - lastCheckpoint.at) },
    ]);
  }
}

function keyOfProblem({ kind, text, remedy }: Problem): string {
  return `${kind}\n${text}\n${remedy}`;
}

function createProblem({ level, text, remedy }: Problem): HTMLElement {
  const notice = element(
    'div',
    { class: 'notice' },
    element('span', { class: 'notice-mark', text: '!', attributes: { 'aria-hidden': 'true' } }),
    element('strong', { text }),
    element('span', { class: 'what-to-do', text: remedy }),
  );
  notice.dataset.tone = level === 'error' ? 'bad' : 'warn';
  return notice;
}

function createRecent({ kind, text, level, step, id }: HistoryEntry): HTMLElement {
  const item = element(
    'li',
    {},
    element('time', { class: 'muted' }),
    element('span', { class: 'kind', text: KIND_WORDS[kind].word }),
    element('span', { class: 'text', text }),
    element('span', { class: 'muted step', text: step === null ? '' : `step ${formatCount(step)}` }),
  );
  item.dataset.level = level;
  item.id = `recent-${id}`;
  return item;
}

function updateRecent(item: Element, { at }: HistoryEntry): void {
  setText(item.querySelector('time')!, formatAge(Date.now() - at));
}
