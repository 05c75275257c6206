/**
 * The frame around the views: header with run, connection and theme; navigation; the notice when the coordinator does not
 * answer. One view is on screen at a time, named by the address.
 */
import 'uplot/dist/uPlot.min.css';
import './styles/base.css';
import './styles/parts.css';
import './styles/views.css';
import type { Connection } from './connection.ts';
import type { Overview } from './contract.ts';
import { element, setAttribute, setText, svg } from './dom.ts';
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

const PAGES: readonly { name: string; title: string; make: () => View; isListed: boolean }[] = [
  { name: 'overview', title: 'Overview', make: () => new OverviewPage(), isListed: true },
  { name: 'workers', title: 'Workers', make: () => new WorkersPage(), isListed: true },
  { name: 'history', title: 'History', make: () => new HistoryPage(run), isListed: true },
  { name: 'queue', title: 'Queue', make: () => new QueuePage(), isListed: true },
  { name: 'data', title: 'Data', make: () => new DataPage(), isListed: true },
  { name: 'playground', title: 'Playground', make: () => new PlaygroundPage(), isListed: true },
  { name: 'log', title: 'Log', make: () => new LogPage(), isListed: false },
];

const views = new Map<string, View>();
const links = new Map<string, HTMLAnchorElement>();
let shown: { name: string; title: string; view: View } | null = null;
let locked: HTMLElement | null = null;

const runName = element('span', { class: 'run-name' });
const place = element('span', { class: 'head-step' });
const dot = element('span', { class: 'dot' });
const connectionText = element('span');
const lostText = element('span');
const lost = element(
  'div',
  { class: 'lost', attributes: { role: 'alert', hidden: '' } },
  lostText,
  element('button', { class: 'plain small', text: 'Try now', on: { click: () => run.retry() } }),
);
const main = element('main', { id: 'main', attributes: { tabindex: '-1' } });
const nav = element(
  'nav',
  { class: 'nav', attributes: { 'aria-label': 'Views' } },
  element(
    'ul',
    {},
    ...PAGES.filter(({ isListed }) => isListed).map(({ name, title }) => {
      const link = element('a', { text: title, attributes: { href: addressOf(name) } });
      links.set(name, link);
      return element('li', {}, link);
    }),
  ),
);

document.body.append(
  element('a', {
    class: 'skip',
    text: 'Skip to the content',
    attributes: { href: '#main' },
    on: {
      // The address belongs to the views, so that the jump is made by hand.
      click: (event) => {
        event.preventDefault();
        main.focus();
      },
    },
  }),
  element(
    'header',
    { class: 'head' },
    element(
      'div',
      { class: 'head-row' },
      element('span', { class: 'brand' }, mark(), 'Lockstep'),
      runName,
      element(
        'div',
        { class: 'head-end' },
        place,
        element('span', { class: 'connection', attributes: { role: 'status' } }, dot, connectionText),
        themeButton(() => {
          for (const view of views.values()) view.recolor();
        }),
      ),
    ),
    nav,
    lost,
  ),
  main,
);

addEventListener('hashchange', () => navigate(true));
navigate(false);
run.start();
// Ages and times left go on while nothing is heard.
setInterval(render, 1000);

function navigate(hasMoved: boolean): void {
  const { name: asked, rest } = placeOf(location.hash);
  const page = PAGES.find(({ name }) => name === asked) ?? PAGES[0]!;
  const view = views.get(page.name) ?? page.make();
  views.set(page.name, view);
  if (shown?.view !== view) {
    shown?.view.hide();
    if (locked === null) main.replaceChildren(view.root);
  }
  shown = { name: page.name, title: page.title, view };
  for (const [name, link] of links) setAttribute(link, 'aria-current', name === page.name ? 'page' : null);
  links.get(page.name)?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  view.show(rest);
  render();
  // A reader of the screen hears the new view's title; the page itself starts at its top.
  if (hasMoved) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function render(): void {
  const { connection, overview } = run;
  setText(runName, overview?.run.name ?? '');
  setText(place, placeText(overview));
  showConnection(connection, overview);
  setText(document.querySelector('title')!, titleOf(overview));
  if (connection.phase === 'locked') {
    if (locked === null) {
      locked = tokenPage(() => {
        locked = null;
        if (shown !== null) main.replaceChildren(shown.view.root);
        run.unlock();
      });
      nav.hidden = true;
      main.replaceChildren(locked);
    }
    return;
  }
  nav.hidden = false;
  shown?.view.update(run);
}

function showConnection(connection: Connection, overview: Overview | null): void {
  const isOver = overview !== null && ['completed', 'stopped', 'failed'].includes(overview.state);
  lost.hidden =
    connection.phase !== 'lost' && (connection.phase !== 'connecting' || connection.failures === 0);
  document.body.classList.toggle('is-stale', !lost.hidden);
  switch (connection.phase) {
    case 'live':
      dot.dataset.tone = overview?.live === false ? '' : 'good';
      setText(connectionText, overview?.live === false ? 'From its files' : 'Live');
      return;
    case 'locked':
      dot.dataset.tone = 'warn';
      setText(connectionText, 'Locked');
      return;
    case 'connecting':
    case 'lost': {
      dot.dataset.tone = lost.hidden ? '' : 'bad';
      setText(connectionText, lost.hidden ? 'Connecting' : 'Not connected');
      const since = formatTime(connection.sinceMs, new Date());
      const sentence = isOver
        ? 'The run is over and its coordinator has ended. `lockstep dashboard RUN` shows it again.'
        : `The coordinator has not answered since ${since}. This page connects again by itself; what it shows is from before.`;
      if (!lost.hidden) setText(lostText, sentence);
      return;
    }
  }
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

function mark(): SVGElement {
  const drawing = { fill: 'none', stroke: 'currentColor', 'stroke-width': 2, 'stroke-linecap': 'round' };
  const path = svg('path', { d: 'M4 2.5v13M9 2.5v13M14 2.5v13M2 9h14' });
  return svg('svg', { ...drawing, viewBox: '0 0 18 18', 'aria-hidden': 'true' }, path);
}
