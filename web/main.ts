/**
 * The frame around the views, which stands in index.html: navigation, connection, theme, and the notice when the coordinator
 * does not answer. One view is on screen at a time, named by the address.
 */
import 'uplot/dist/uPlot.min.css';
import './styles/base.css';
import './styles/parts.css';
import './styles/views.css';
import type { Connection } from './connection.ts';
import type { Overview } from './contract.ts';
import { setAttribute, setText } from './dom.ts';
import { formatCount, formatTime } from './format.ts';
import { LiveRun } from './live.ts';
import { addressOf, placeOf } from './router.ts';
import { tokenPage } from './session.ts';
import { themeButton } from './theme.ts';
import type { View } from './view.ts';
import { DataPage } from './views/data.ts';
import { HistoryPage } from './views/history.ts';
import { LogPage } from './views/log.ts';
import { OverviewPage } from './views/overview.ts';
import { PlaygroundPage } from './views/playground.ts';
import { QueuePage } from './views/queue.ts';
import { WorkersPage } from './views/workers.ts';

const run = new LiveRun(render);

const PAGES: Readonly<Record<string, { readonly title: string; readonly make: () => View }>> = {
  overview: { title: 'Overview', make: () => new OverviewPage() },
  workers: { title: 'Workers', make: () => new WorkersPage() },
  history: { title: 'History', make: () => new HistoryPage(run) },
  queue: { title: 'Queue', make: () => new QueuePage() },
  data: { title: 'Data', make: () => new DataPage() },
  playground: { title: 'Playground', make: () => new PlaygroundPage() },
  log: { title: 'Log', make: () => new LogPage() },
};

const views = new Map<string, View>();
let shown: { readonly name: string; readonly title: string; readonly view: View } | null = null;
let locked: HTMLElement | null = null;

const main = part('main');
const nav = part('nav');
const lost = part('lost');
const links = [...nav.querySelectorAll('a')];

part('head-end').append(
  themeButton(() => {
    for (const view of views.values()) view.recolor();
  }),
);
part('retry').addEventListener('click', () => run.retry());
part('skip').addEventListener('click', (event) => {
  // The address belongs to the views, so that the jump is made by hand.
  event.preventDefault();
  main.focus();
});
addEventListener('hashchange', () => navigate(true));
navigate(false);
run.start();
// Ages and times left go on while nothing is heard.
setInterval(render, 1000);

/** An element of index.html. */
function part(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no element with id ${id}`);
  return found;
}

function navigate(hasMoved: boolean): void {
  const asked = placeOf(location.hash);
  const name = Object.hasOwn(PAGES, asked.name) ? asked.name : 'overview';
  const { title, make } = PAGES[name]!;
  const view = views.get(name) ?? make();
  views.set(name, view);
  if (shown?.view !== view) {
    shown?.view.hide();
    if (locked === null) main.replaceChildren(view.root);
  }
  shown = { name, title, view };
  for (const link of links) {
    const isHere = link.getAttribute('href') === addressOf(name);
    setAttribute(link, 'aria-current', isHere ? 'page' : null);
    if (isHere) link.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }
  view.show(asked.rest);
  render();
  // A reader of the screen hears the new view's title; the page itself starts at its top.
  if (hasMoved) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function render(): void {
  const { connection, overview } = run;
  setText(part('run-name'), overview?.run.name ?? '');
  setText(part('head-step'), placeText(overview));
  showConnection(connection, overview);
  const title = titleOf(overview);
  if (document.title !== title) document.title = title;
  if (connection.phase === 'locked') showLock();
  else {
    nav.hidden = false;
    shown?.view.update(run);
  }
}

/** The form for the token, in place of the view until a token is accepted. */
function showLock(): void {
  if (locked !== null) return;
  nav.hidden = true;
  locked = tokenPage(() => {
    locked = null;
    if (shown !== null) main.replaceChildren(shown.view.root);
    run.unlock();
  });
  main.replaceChildren(locked);
}

function showConnection(connection: Connection, overview: Overview | null): void {
  const isOver = overview !== null && ['completed', 'stopped', 'failed'].includes(overview.state);
  const isLost =
    connection.phase === 'lost' || (connection.phase === 'connecting' && connection.failures > 0);
  lost.hidden = !isLost;
  document.body.classList.toggle('is-stale', isLost);
  const { word, tone } = isLost ? LOST : wordsOf(connection, overview);
  part('connection-dot').dataset.tone = tone;
  setText(part('connection-text'), word);
  if (!isLost) return;
  const since = formatTime(connection.sinceMs, new Date());
  const sentence = isOver
    ? 'The run is over and its coordinator has ended. To see it again: lockstep dashboard RUN.'
    : `The coordinator has not answered since ${since}. This page connects again by itself; what it shows is from before.`;
  setText(part('lost-text'), sentence);
}

const LOST = { word: 'Not connected', tone: 'bad' } as const;

function wordsOf({ phase }: Connection, overview: Overview | null): { word: string; tone: string } {
  if (phase === 'locked') return { word: 'Locked', tone: 'warn' };
  if (phase !== 'live') return { word: 'Connecting', tone: '' };
  return overview?.live === false ? { word: 'From its files', tone: '' } : { word: 'Live', tone: 'good' };
}

/** Where the run is, on every view but the one that says it large. */
function placeText(overview: Overview | null): string {
  if (overview === null || shown?.name === 'overview') return '';
  return `${overview.state}, step ${formatCount(overview.step)} of ${formatCount(overview.totalSteps)}`;
}

function titleOf(overview: Overview | null): string {
  if (overview === null) return 'Lockstep';
  const { step, totalSteps, run } = overview;
  const view = shown === null || shown.name === 'overview' ? '' : `${shown.title} · `;
  return `${view}${formatCount(step)}/${formatCount(totalSteps)} · ${run.name} · Lockstep`;
}
