/**
 * One worker as a row of the table; on a narrow screen the same row is laid out as a card, by style alone. Cells are written
 * only when their text changes.
 */
import { PHASES, type PhaseTimes, type WorkerRow, type WorkersView } from '../contract.ts';
import { element, setAttribute, setText } from '../dom.ts';
import { formatAge, formatBytes, formatCount, formatDuration, formatShort, UNKNOWN } from '../format.ts';
import { addressOf } from '../router.ts';
import { PHASE_WORDS, tag, WORKER_WORDS } from '../words.ts';

export type Action = 'drain' | 'evict';

/** The parts of a row that change, and the row they show at present: what its buttons act on. */
interface Parts {
  row: WorkerRow;
  readonly state: HTMLElement;
  readonly reason: HTMLElement;
  readonly straggler: HTMLElement;
  readonly device: HTMLElement;
  readonly engine: HTMLElement;
  readonly slots: HTMLElement;
  readonly slotsNote: HTMLElement;
  readonly tokens: HTMLElement;
  readonly phases: HTMLElement;
  readonly phasesNote: HTMLElement;
  readonly memory: HTMLElement;
  readonly tensors: HTMLElement;
  readonly sent: HTMLElement;
  readonly received: HTMLElement;
  readonly joined: HTMLElement;
  readonly joinedNote: HTMLElement;
  readonly buttons: Readonly<Record<Action, HTMLButtonElement>>;
  readonly log: HTMLAnchorElement;
}

const partsOf = new WeakMap<Element, Parts>();

export function createWorkerRow(
  row: WorkerRow,
  onAction: (action: Action, row: WorkerRow) => void,
): HTMLTableRowElement {
  const note = () => element('span', { class: 'note' });
  const button = (action: Action, text: string) =>
    element('button', {
      class: 'small',
      text,
      attributes: { type: 'button', 'aria-label': `${text} ${row.name}` },
      on: { click: () => onAction(action, parts.row) },
    });
  const parts: Parts = {
    row,
    state: element('span'),
    reason: element('span', { class: 'note reason' }),
    straggler: tag('Straggler', 'warn'),
    device: element('span', { class: 'clip' }),
    engine: element('span', { class: 'note clip' }),
    slots: element('span'),
    slotsNote: note(),
    tokens: element('span'),
    phases: element('div', { class: 'phases', attributes: { role: 'img' } }),
    phasesNote: note(),
    memory: element('span'),
    tensors: note(),
    sent: note(),
    received: note(),
    joined: element('span'),
    joinedNote: note(),
    buttons: { drain: button('drain', 'Drain'), evict: button('evict', 'Evict') },
    log: element('a', {
      class: 'log-link',
      text: 'log',
      attributes: { 'aria-label': `Log of ${row.name}` },
    }),
  };
  for (const phase of PHASES) {
    const part = element('span');
    part.style.background = `var(--phase-${phase})`;
    parts.phases.append(part);
  }
  parts.memory.title = 'Resident memory of its process.';
  parts.tensors.title =
    "Held by the engine's tensors after its newest micro-batch, in the device's memory if it has its own.";
  parts.straggler.title =
    'The step waits for this worker: its slots take much longer than those of the others.';
  const cell = (label: string, className: string, ...children: HTMLElement[]) =>
    element('td', { class: className, attributes: { 'data-label': label } }, ...children);
  const made = element(
    'tr',
    {},
    element(
      'th',
      { attributes: { scope: 'row' } },
      element('span', { class: 'name', text: row.name }),
      parts.log,
      element('span', { class: 'note', text: `${row.host}, pid ${row.pid}` }),
    ),
    cell('State', 'state', parts.state, parts.straggler, parts.reason),
    cell('Device', 'device', parts.device, parts.engine),
    cell('Slots', 'while-present', parts.slots, parts.slotsNote),
    cell('Tokens/s', 'number while-present', parts.tokens),
    cell('Last step', 'phases-cell while-present', parts.phases, parts.phasesNote),
    cell('Memory', 'number while-present', parts.memory, parts.tensors),
    cell('Network', 'while-present', parts.sent, parts.received),
    cell('Joined', '', parts.joined, parts.joinedNote),
    element('td', { class: 'actions' }, parts.buttons.drain, parts.buttons.evict),
  );
  partsOf.set(made, parts);
  return made;
}

export function updateWorkerRow(made: Element, row: WorkerRow, actions: WorkersView['actions']): void {
  const parts = partsOf.get(made)!;
  parts.row = row;
  const isGone = row.state === 'lost' || row.state === 'left';
  made.classList.toggle('is-gone', isGone);
  setAttribute(made, 'data-state', row.state);
  const { word, tone } = WORKER_WORDS[row.state];
  if (parts.state.textContent !== word) parts.state.replaceChildren(tag(word, tone));
  parts.straggler.hidden = !row.straggler || isGone;
  setText(parts.reason, row.reason ?? '');
  setText(parts.device, row.device === '' ? UNKNOWN : row.device);
  setAttribute(parts.device, 'title', row.device);
  setText(parts.engine, row.engine);
  setText(parts.slots, isGone ? UNKNOWN : `${row.slotsDone} done`);
  setText(parts.slotsNote, isGone || row.slotsLeased === 0 ? '' : `${row.slotsLeased} leased`);
  setText(parts.tokens, isGone ? UNKNOWN : formatShort(row.tokensPerSecond));
  showPhases(parts, isGone ? null : row.phases);
  setText(parts.memory, isGone ? UNKNOWN : formatBytes(row.residentBytes));
  const hasTensors = !isGone && row.engineBytes !== null;
  setText(parts.tensors, hasTensors ? `tensors ${formatBytes(row.engineBytes)}` : '');
  const { sentBytesPerSecond: sent, receivedBytesPerSecond: received } = row;
  const isSilent = isGone || (sent === null && received === null);
  setText(parts.sent, isSilent ? UNKNOWN : `↑ ${formatBytes(sent)}/s`);
  setText(parts.received, isSilent ? '' : `↓ ${formatBytes(received)}/s`);
  setText(parts.joined, row.generation === null ? 'not yet' : `gen. ${formatCount(row.generation)}`);
  const sinceMs = Date.now() - (row.endedAt ?? row.joinedAt);
  const age = formatAge(sinceMs);
  setText(parts.joinedNote, row.endedAt === null ? age : age === 'now' ? 'just gone' : `gone ${age}`);
  const isMember = row.state === 'training' || row.state === 'joining' || row.state === 'preparing';
  parts.buttons.drain.hidden = !actions.drain || !isMember;
  parts.buttons.evict.hidden = !actions.evict || isGone;
  const file = row.logs[0];
  parts.log.hidden = file === undefined;
  // Of one that is gone, the end is what matters; else the newest lines.
  const place = row.endedAt === null ? [] : [row.endedAt];
  if (file !== undefined) setAttribute(parts.log, 'href', addressOf('log', file, ...place));
}

function showPhases({ phases, phasesNote }: Parts, times: PhaseTimes | null): void {
  phases.hidden = times === null;
  const total = times === null ? 0 : PHASES.reduce((sum, phase) => sum + times[phase], 0);
  setText(phasesNote, times === null ? UNKNOWN : formatDuration(total));
  if (times === null) return;
  const words: string[] = [];
  for (const [index, phase] of PHASES.entries()) {
    const share = total === 0 ? 0 : (100 * times[phase]) / total;
    // An element for each phase was made in this order.
    (phases.children[index] as HTMLElement).style.width = `${share}%`;
    words.push(`${PHASE_WORDS[phase].word} ${formatDuration(times[phase])}`);
  }
  setAttribute(phases, 'aria-label', words.join(', '));
  setAttribute(phases, 'title', words.join('\n'));
}
