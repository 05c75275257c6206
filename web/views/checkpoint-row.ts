/** One checkpoint as a row of the table, or a card on a narrow screen. */
import type { CheckpointView } from '../contract.ts';
import { element, setText } from '../dom.ts';
import { formatAge, formatBytes, formatCount, UNKNOWN } from '../format.ts';
import { type Tone, tag } from '../words.ts';

const STATES: Readonly<Record<CheckpointView['state'], { word: string; tone: Tone }>> = {
  complete: { word: 'Complete', tone: 'muted' },
  verified: { word: 'Verified', tone: 'good' },
  invalid: { word: 'Invalid', tone: 'bad' },
};

export function createCheckpointRow(
  checkpoint: CheckpointView,
  onVerify: (step: number) => void,
): HTMLTableRowElement {
  const { step, files, weightsSha256 } = checkpoint;
  const cell = (label: string, className: string, ...children: (HTMLElement | string)[]) =>
    element('td', { class: className, attributes: { 'data-label': label } }, ...children);
  const digest =
    weightsSha256 === null
      ? UNKNOWN
      : element('code', {
          class: 'digest',
          text: weightsSha256.slice(0, 16),
          attributes: { title: weightsSha256 },
        });
  return element(
    'tr',
    {},
    element('th', { text: `Step ${formatCount(step)}`, attributes: { scope: 'row' } }),
    cell('Written', 'written'),
    cell('Size', '', formatBytes(checkpoint.bytes)),
    cell('State', 'state', element('span', { class: 'verdict' }), element('span', { class: 'note' })),
    cell('Weights', '', digest),
    cell(
      'Files',
      'files',
      ...files.map(({ name, bytes, sha256 }) =>
        downloadLink(step, name, `${formatBytes(bytes)}, sha256 ${sha256 ?? 'unknown'}`),
      ),
      downloadLink(step, 'manifest.json', 'sizes, digests, configuration'),
    ),
    element(
      'td',
      { class: 'actions' },
      element('button', {
        class: 'small',
        text: 'Verify',
        attributes: { type: 'button', 'aria-label': `Verify the checkpoint of step ${step}` },
        on: { click: () => onVerify(step) },
      }),
    ),
  );
}

export function updateCheckpointRow(
  made: Element,
  { state, reason, createdAt }: CheckpointView,
  isVerifying: boolean,
): void {
  const { word, tone } = STATES[state];
  setText(made.querySelector('.written')!, createdAt === null ? UNKNOWN : formatAge(Date.now() - createdAt));
  const verdict = made.querySelector('.verdict')!;
  if (verdict.textContent !== word) verdict.replaceChildren(tag(word, tone));
  setText(made.querySelector('.note')!, reason ?? '');
  const button = made.querySelector('button')!;
  button.disabled = isVerifying;
  setText(button, isVerifying ? 'Hashing …' : 'Verify');
}

function downloadLink(step: number, name: string, title: string): HTMLElement {
  const href = `/api/checkpoints/${step}/${encodeURIComponent(name)}`;
  return element('a', { text: name, attributes: { href, download: `step-${step}-${name}`, title } });
}
