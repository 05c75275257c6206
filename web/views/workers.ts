/**
 * Who takes part: one row for each worker with what it does and where its time goes, buttons to drain or evict it, and the
 * timeline of the last steps.
 */
import { get, post, sentenceOf } from '../api.ts';
import { phaseLegend, Timeline } from '../charts/timeline.ts';
import { askToConfirm } from '../confirm.ts';
import type { ActionAnswer, TimelineView, WorkerRow, WorkersView } from '../contract.ts';
import { element, reconcile, setText } from '../dom.ts';
import { plural } from '../format.ts';
import type { LiveRun } from '../live.ts';
import type { View } from '../view.ts';
import { type Action, createWorkerRow, updateWorkerRow } from './worker-row.ts';

const COLUMNS = [
  ...['Worker', 'State', 'Device', 'Slots', 'Tokens/s', 'Time of its last step'],
  ...['Memory', 'Network', 'Joined'],
];
const NUMERIC = ['Tokens/s', 'Memory'];
const TIMELINE_STEPS = [10, 20, 40, 60] as const;

export class WorkersPage implements View {
  readonly root: HTMLElement;
  readonly #body = element('tbody');
  readonly #count = element('span', { class: 'muted' });
  readonly #said = element('p', { class: 'said-line', attributes: { role: 'status' } });
  readonly #empty = element('p', {
    class: 'empty',
    text: 'No worker has come yet. Start one with: lockstep worker',
  });
  readonly #timeline = new Timeline();
  readonly #steps = element('select', { id: 'timeline-steps' });
  #timelineView: TimelineView = { workers: [], steps: [] };
  #actions: WorkersView['actions'] = { drain: false, evict: false };
  #fetchedFor: unknown = null;
  #isFetching = false;

  constructor() {
    for (const count of TIMELINE_STEPS) {
      this.#steps.append(element('option', { text: `last ${count}`, attributes: { value: String(count) } }));
    }
    this.#steps.value = matchMedia('(max-width: 640px)').matches ? '10' : '20';
    this.#steps.addEventListener('change', () => this.#showTimeline());
    this.root = element(
      'div',
      { class: 'stack' },
      element(
        'section',
        { class: 'panel', attributes: { 'aria-labelledby': 'workers-title' } },
        element(
          'div',
          { class: 'panel-head' },
          element('h1', { class: 'panel-title', id: 'workers-title', text: 'Workers' }),
          this.#count,
          element('div', { class: 'end' }, phaseLegend()),
        ),
        this.#said,
        element('div', { class: 'scroll' }, element('table', { class: 'cards workers' }, head(), this.#body)),
        this.#empty,
      ),
      element(
        'section',
        { class: 'panel', attributes: { 'aria-labelledby': 'timeline-title' } },
        element(
          'div',
          { class: 'panel-head' },
          element('h2', { id: 'timeline-title', text: 'Where the time goes' }),
          element(
            'div',
            { class: 'end' },
            element('label', { text: 'Steps', attributes: { for: 'timeline-steps' } }),
            this.#steps,
          ),
        ),
        element('div', { class: 'panel-body' }, this.#timeline.root),
      ),
    );
  }

  show(): void {
    this.#fetchedFor = null;
  }

  hide(): void {}

  update({ workers, overview, connection }: LiveRun): void {
    if (workers !== null) {
      this.#actions = workers.actions;
      reconcile(
        this.#body,
        workers.rows,
        ({ name, pid, joinedAt }) => `${name} ${pid} ${joinedAt}`,
        (row) => createWorkerRow(row, (action, clicked) => void this.#act(action, clicked)),
        (made, row) => updateWorkerRow(made, row, this.#actions),
      );
      this.#empty.hidden = workers.rows.length > 0;
      const training = workers.rows.filter(
        ({ state }) => state === 'training' || state === 'draining',
      ).length;
      setText(this.#count, `${plural(training, 'worker')} in the step`);
    }
    if (connection.phase === 'live' && overview !== null && overview.step !== this.#fetchedFor) {
      void this.#fetchTimeline(overview.step);
    }
  }

  recolor(): void {
    this.#timeline.recolor();
  }

  async #fetchTimeline(step: number): Promise<void> {
    if (this.#isFetching) return;
    this.#isFetching = true;
    try {
      this.#timelineView = await get<TimelineView>('/api/timeline');
      this.#fetchedFor = step;
      this.#showTimeline();
    } catch {
      // The connection's own notice says it; the next step asks again.
    } finally {
      this.#isFetching = false;
    }
  }

  #showTimeline(): void {
    // Workers report a step with the next one: until then there is nothing to draw of it.
    const reported = this.#timelineView.steps.filter(({ lanes }) => lanes.length > 0);
    const steps = reported.slice(-Number(this.#steps.value));
    const present = new Set(steps.flatMap(({ lanes }) => lanes.map(({ worker }) => worker)));
    this.#timeline.update({ workers: this.#timelineView.workers.filter((name) => present.has(name)), steps });
  }

  async #act(action: Action, { name }: WorkerRow): Promise<void> {
    if (!(await askToConfirm(QUESTIONS[action](name)))) return;
    try {
      const { text } = await post<ActionAnswer>(`/api/workers/${encodeURIComponent(name)}/${action}`, {});
      this.#say(text, false);
    } catch (error) {
      this.#say(sentenceOf(error), true);
    }
  }

  #say(text: string, isError: boolean): void {
    setText(this.#said, text);
    this.#said.classList.toggle('is-error', isError);
  }
}

const QUESTIONS = {
  drain: (name: string) => ({
    title: `Drain ${name}?`,
    text: [
      'It finishes the slots it holds, hands back the rest, and its process ends. The others take over its share.',
      'The weights stay the same to the bit.',
    ],
    confirm: 'Drain',
    isDangerous: false,
  }),
  evict: (name: string) => ({
    title: `Evict ${name}?`,
    text: [
      'It is put out at once, and others compute its slots of this step again. Its process ends.',
      'The weights stay the same to the bit. Draining is the gentler way.',
    ],
    confirm: 'Evict',
    isDangerous: true,
  }),
} as const;

function head(): HTMLElement {
  return element(
    'thead',
    {},
    element(
      'tr',
      {},
      ...COLUMNS.map((name) =>
        element('th', {
          text: name,
          class: NUMERIC.includes(name) ? 'number' : '',
          attributes: { scope: 'col' },
        }),
      ),
      element(
        'th',
        { attributes: { scope: 'col' } },
        element('span', { class: 'visually-hidden', text: 'Actions' }),
      ),
    ),
  );
}
