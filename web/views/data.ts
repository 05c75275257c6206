/** How far through the data the run is, and its checkpoints: size, digest, whether they were verified, and their files. */
import { get, LONG_TIMEOUT_MS, post, sentenceOf } from '../api.ts';
import type { CheckpointsView, CheckpointView, DataView as DataProgress } from '../contract.ts';
import { element, reconcile, setText } from '../dom.ts';
import { formatCount, formatShare, formatShort } from '../format.ts';
import type { LiveRun } from '../live.ts';
import type { View } from '../view.ts';
import { createCheckpointRow, updateCheckpointRow } from './checkpoint-row.ts';
import { Figures } from './figures.ts';

const COLUMNS = ['Step', 'Written', 'Size', 'State', 'Weights (SHA-256)', 'Files'];

export class DataPage implements View {
  readonly root: HTMLElement;
  readonly #figures = new Figures([
    'Articles',
    'Tokens in the set',
    'Samples seen',
    'Tokens seen',
    'Vocabulary',
  ]);
  readonly #epoch = element('p');
  readonly #progress = element('span');
  readonly #progressBar = element('div', {
    class: 'bar',
    attributes: {
      role: 'progressbar',
      'aria-label': 'Epoch done',
      'aria-valuemin': '0',
      'aria-valuemax': '100',
    },
  });
  readonly #digest = element('p', { class: 'muted small-print' });
  readonly #body = element('tbody');
  readonly #empty = element('p', { class: 'empty', text: 'No checkpoint is written yet.' });
  readonly #said = element('p', { class: 'said-line', attributes: { role: 'status' } });
  #fetchedFor = '';
  #isFetching = false;
  /** Steps whose checkpoint is being verified. */
  readonly #verifying = new Set<number>();
  #checkpoints: readonly CheckpointView[] = [];

  constructor() {
    this.#progressBar.append(this.#progress);
    const heads = [...COLUMNS, ''].map((text) => element('th', { text, attributes: { scope: 'col' } }));
    heads.at(-1)!.append(element('span', { class: 'visually-hidden', text: 'Actions' }));
    this.root = element(
      'div',
      { class: 'stack' },
      element(
        'section',
        { class: 'panel', attributes: { 'aria-labelledby': 'data-title' } },
        element(
          'div',
          { class: 'panel-head' },
          element('h1', { class: 'panel-title', id: 'data-title', text: 'Data' }),
        ),
        element('div', { class: 'panel-body stack tight' }, this.#epoch, this.#progressBar, this.#digest),
      ),
      this.#figures.root,
      element(
        'section',
        { class: 'panel', attributes: { 'aria-labelledby': 'checkpoints-title' } },
        element(
          'div',
          { class: 'panel-head' },
          element('h2', { id: 'checkpoints-title', text: 'Checkpoints' }),
          element('span', {
            class: 'muted',
            text: 'complete: sizes and headers agree · verified: every byte was hashed',
          }),
        ),
        this.#said,
        element(
          'div',
          { class: 'scroll' },
          element(
            'table',
            { class: 'cards checkpoints' },
            element('thead', {}, element('tr', {}, ...heads)),
            this.#body,
          ),
        ),
        this.#empty,
      ),
    );
  }

  show(): void {
    this.#fetchedFor = '';
  }

  hide(): void {}

  update({ overview, connection }: LiveRun): void {
    this.#showCheckpoints();
    if (overview === null || connection.phase !== 'live') return;
    const wanted = `${overview.step} ${overview.lastCheckpoint?.step}`;
    if (wanted !== this.#fetchedFor) void this.#fetch(wanted);
  }

  recolor(): void {}

  async #fetch(wanted: string): Promise<void> {
    if (this.#isFetching) return;
    this.#isFetching = true;
    try {
      const [data, { checkpoints }] = await Promise.all([
        get<DataProgress>('/api/data'),
        get<CheckpointsView>('/api/checkpoints'),
      ]);
      this.#fetchedFor = wanted;
      this.#checkpoints = checkpoints;
      this.#showData(data);
      this.#showCheckpoints();
    } catch (error) {
      setText(this.#epoch, sentenceOf(error));
    } finally {
      this.#isFetching = false;
    }
  }

  #showData({
    dataset,
    reason,
    datasetSha256,
    samplesSeen,
    tokensSeen,
    epoch,
    epochShare,
  }: DataProgress): void {
    const share = epochShare === null ? null : Math.min(1, epochShare);
    setText(
      this.#epoch,
      epoch === null || share === null
        ? (reason ?? 'The data set is not known here.')
        : `Epoch ${epoch + 1}, ${formatShare(share)} done`,
    );
    this.#progressBar.hidden = share === null;
    this.#progress.style.width = `${100 * (share ?? 0)}%`;
    this.#progressBar.setAttribute('aria-valuenow', String(Math.round(100 * (share ?? 0))));
    this.#digest.replaceChildren(
      'Data set ',
      element('code', {
        class: 'digest',
        text: datasetSha256.slice(0, 16),
        attributes: { title: datasetSha256 },
      }),
    );
    this.#figures.update([
      { value: formatCount(dataset?.articles ?? null), note: '' },
      { value: formatShort(dataset?.tokens ?? null), note: '' },
      {
        value: formatShort(samplesSeen),
        note: dataset === null ? '' : `of ${formatShort(dataset.samples)} an epoch`,
      },
      { value: formatShort(tokensSeen), note: 'real target tokens' },
      { value: formatCount(dataset?.vocabSize ?? null), note: 'tokens' },
    ]);
  }

  #showCheckpoints(): void {
    this.#empty.hidden = this.#checkpoints.length > 0;
    reconcile(
      this.#body,
      this.#checkpoints,
      ({ step }) => String(step),
      (checkpoint) => createCheckpointRow(checkpoint, (step) => void this.#verify(step)),
      (made, checkpoint) => updateCheckpointRow(made, checkpoint, this.#verifying.has(checkpoint.step)),
    );
  }

  async #verify(step: number): Promise<void> {
    this.#verifying.add(step);
    this.#showCheckpoints();
    try {
      const verified = await post<CheckpointView>(`/api/checkpoints/${step}/verify`, {}, LONG_TIMEOUT_MS);
      this.#checkpoints = this.#checkpoints.map((checkpoint) =>
        checkpoint.step === step ? verified : checkpoint,
      );
      setText(
        this.#said,
        verified.state === 'verified'
          ? `The checkpoint of step ${formatCount(step)} is whole: every byte agrees with its manifest.`
          : `The checkpoint of step ${formatCount(step)} is damaged: ${verified.reason ?? 'no reason given'}`,
      );
    } catch (error) {
      setText(this.#said, sentenceOf(error));
    } finally {
      this.#verifying.delete(step);
      this.#showCheckpoints();
    }
  }
}
