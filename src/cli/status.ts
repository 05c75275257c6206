/** `lockstep status RUN`: the dashboard's overview in a terminal, once or live, with plots where asked. */
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { type Overview, RunFollower, type WorkerRow } from '../dashboard/index.ts';
import { formatBytes, formatCount, formatDuration, isTerminal, runCommand, say } from './terminal.ts';
import { textPlot } from './text-plot.ts';

const REFRESH_MS = 1000;
const PLOT_HEIGHT = 8;
const WIDTH_WITHOUT_TERMINAL = 100;
const HOME_AND_CLEAR = '\u001b[H\u001b[J';

interface StatusFlags {
  readonly watch?: boolean;
  readonly plot?: boolean;
}

export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .description('print how a run is doing, from its folder')
    .argument('<run>', 'folder of the run')
    .option('--watch', 'keep it up to date until the run ends or Ctrl-C')
    .option('--plot', 'draw the loss and the speed as well')
    .action((run: string, flags: StatusFlags) => runCommand(() => status(run, flags)));
}

async function status(run: string, flags: StatusFlags): Promise<number> {
  const follower = new RunFollower(run);
  let isStopped = false;
  let wake = () => {};
  process.once('SIGINT', () => {
    isStopped = true;
    wake();
  });
  for (;;) {
    await follower.refresh();
    const overview = follower.view.overview({ name: follower.name, live: false }, Date.now());
    if (overview === null && flags.watch !== true) {
      throw new LockstepError('DATA_MISSING', `${run} holds no run: is it the folder given to --run?`);
    }
    const lines =
      overview === null ? [`${run} holds no run yet`] : linesOf(overview, follower, flags.plot === true);
    say(`${flags.watch === true && isTerminal ? HOME_AND_CLEAR : ''}${lines.join('\n')}`);
    if (flags.watch !== true || isStopped || isOver(overview)) return 0;
    await new Promise<void>((resolve) => {
      wake = resolve;
      setTimeout(resolve, REFRESH_MS);
    });
    if (isStopped) return 0;
  }
}

function isOver(overview: Overview | null): boolean {
  return overview !== null && ['completed', 'stopped', 'failed'].includes(overview.state);
}

function linesOf(overview: Overview, { view }: RunFollower, withPlots: boolean): string[] {
  const width = isTerminal ? (process.stdout.columns ?? 80) : WIDTH_WITHOUT_TERMINAL;
  const rows = view.workers().filter(({ state }) => state !== 'left');
  return [
    `${overview.run.name}: ${overview.headline}`,
    `  ${figuresOf(overview).join('  ')}`,
    ...overview.problems.map(({ level, text, remedy }) => `  ${level}: ${text} ${remedy}`),
    ...rows.map((row) => `  ${workerLine(row)}`),
    ...(withPlots ? plotsOf(view.series(), width) : []),
  ];
}

function figuresOf(overview: Overview): string[] {
  const { loss, validationLoss, learningRate, tokensPerSecond, goodput, leftMs, lastCheckpoint } = overview;
  const told = <T>(value: T | null, text: (value: T) => string) => (value === null ? [] : [text(value)]);
  return [
    ...told(loss, (value) => `loss ${value.toFixed(4)}`),
    ...told(validationLoss, (value) => `validation ${value.toFixed(4)}`),
    ...told(learningRate, (value) => `lr ${value.toExponential(2)}`),
    ...told(tokensPerSecond, (value) => `${formatCount(value)} tokens/s`),
    ...told(goodput, (value) => `goodput ${(100 * value).toFixed(0)} %`),
    ...told(leftMs, (value) => `${formatDuration(value)} left`),
    ...told(lastCheckpoint, ({ step }) => `checkpoint of step ${step}`),
  ];
}

function workerLine(row: WorkerRow): string {
  const { name, state, reason, device, slotsPerSecond, residentBytes, straggler, phases } = row;
  const busiest =
    phases === null
      ? []
      : Object.entries(phases).map(([phase, milliseconds]) => `${phase} ${Math.round(milliseconds)}`);
  return [
    name.padEnd(12),
    state.padEnd(9),
    ...(reason === null ? [] : [reason]),
    ...(device === '' ? [] : [device]),
    ...(slotsPerSecond === null ? [] : [`${slotsPerSecond.toFixed(1)} slots/s`]),
    ...(residentBytes === null ? [] : [formatBytes(residentBytes)]),
    ...(busiest.length === 0 ? [] : [`ms: ${busiest.join(' ')}`]),
    ...(straggler ? ['(straggler)'] : []),
  ].join('  ');
}

function plotsOf(series: ReturnType<RunFollower['view']['series']>, width: number): string[] {
  const { step, loss, tokensPerSecond } = series;
  const size = { width, height: PLOT_HEIGHT };
  const speeds = tokensPerSecond.map((value) => value ?? Number.NaN);
  return [...titled('loss', textPlot(step, loss, size)), ...titled('tokens/s', textPlot(step, speeds, size))];
}

function titled(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines];
}
