/** The queue in a few figures of our own, and the way to Bull Board, which shows every job. */
import type { QueueView } from '../contract.ts';
import { element, setText } from '../dom.ts';
import { formatCount, formatDuration } from '../format.ts';
import type { LiveRun } from '../live.ts';
import type { View } from '../view.ts';
import { Figures } from './figures.ts';

export class QueuePage implements View {
  readonly root: HTMLElement;
  readonly #figures = new Figures([
    'Waiting',
    'Leased',
    'Stalled',
    'Done in this step',
    'Oldest lease',
    'Slots committed',
  ]);
  readonly #name = element('span', { class: 'muted mono' });
  readonly #verdict = element('p');
  readonly #board = element('a', {
    class: 'button',
    text: 'Open Bull Board',
    attributes: { href: '/queues' },
  });
  readonly #boardNote = element('span', { class: 'muted' });

  constructor() {
    this.root = element(
      'div',
      { class: 'stack' },
      element(
        'section',
        { class: 'panel', attributes: { 'aria-labelledby': 'queue-title' } },
        element(
          'div',
          { class: 'panel-head' },
          element('h1', { class: 'panel-title', id: 'queue-title', text: 'Queue' }),
          this.#name,
        ),
        element(
          'div',
          { class: 'panel-body stack' },
          this.#verdict,
          element('div', { class: 'row' }, this.#board, this.#boardNote),
        ),
      ),
      this.#figures.root,
      element('p', {
        class: 'muted small-print',
        text: 'A job is a range of slots. It stays leased after it is computed, until its step commits; a lease that runs out goes to another worker, and what the first one sends later is refused.',
      }),
    );
  }

  show(): void {}

  hide(): void {}

  update({ queue }: LiveRun): void {
    if (queue === null) {
      setText(this.#verdict, 'Looking at the queue …');
      this.#board.hidden = true;
      return;
    }
    this.#showBoard(queue);
    const committed = { value: formatCount(queue.slotsCommitted), note: 'since the run began' };
    if (queue.queue === null) {
      setText(
        this.#verdict,
        'There is no queue to look at: the run is over, or only its folder is looked at.',
      );
      setText(this.#name, '');
      const none = { value: '–', note: '' };
      this.#figures.update([none, none, none, none, none, committed]);
      return;
    }
    const { name, waiting, leased, stalled, slotsDone, slots, oldestLeaseMs } = queue.queue;
    setText(this.#name, name);
    setText(this.#verdict, verdictOf(queue.queue));
    this.#figures.update([
      { value: formatCount(waiting), note: 'jobs nobody has taken' },
      { value: formatCount(leased), note: 'jobs with a worker' },
      { value: formatCount(stalled), note: 'leases that ran out' },
      { value: `${formatCount(slotsDone)} of ${formatCount(slots)}`, note: 'slots computed' },
      {
        value: formatDuration(oldestLeaseMs),
        note: oldestLeaseMs === null ? 'nothing leased' : 'since it was taken',
      },
      committed,
    ]);
  }

  recolor(): void {}

  #showBoard({ board }: QueueView): void {
    this.#board.hidden = board === 'none';
    const notes = {
      none: '',
      readOnly: 'Every job, to look at only.',
      writable: 'Every job. It may change them: a run survives that, but is held up.',
    };
    setText(this.#boardNote, notes[board]);
  }
}

function verdictOf({ waiting, leased, stalled }: NonNullable<QueueView['queue']>): string {
  if (stalled > 0)
    return 'A lease has run out: its worker was lost or hangs, and another takes the job over.';
  if (leased > 0)
    return waiting > 0
      ? 'Workers have jobs, and more are waiting.'
      : 'All jobs of this step are with workers.';
  return waiting > 0
    ? 'Jobs are waiting, and no worker has taken one.'
    : 'Empty: between two steps, or nothing is planned.';
}
