/** The verdict of `lockstep chaos` as a person reads it: one line for each thing that was to be proven. */
import type { JoinSummary, RecoverySummary, Spread, Verdict } from '../../chaos/index.ts';
import { formatCount } from '../terminal.ts';

export function linesOfVerdict(verdict: Verdict): string[] {
  const { ok, failures, digest, expectedDigest, ledger, recoveries, refused, workersLost } = verdict;
  const same = digest === expectedDigest ? 'the same as undisturbed' : `undisturbed ${expectedDigest}`;
  const frames = Object.entries(refused.frames);
  return [
    `weights      ${digest ?? 'none'}, ${same}`,
    `steps        ${ledger.steps} of ${ledger.stepsExpected}`,
    `slots        ${ledger.lost} lost, ${ledger.doubled} counted twice`,
    ...tableOfRecoveries(recoveries),
    `lost         ${workersLost} workers; ${refused.evictions} evicted and back as new ones`,
    lineOfJoins('joined', 'new processes', verdict.joined),
    lineOfJoins('came back', 'after an eviction', verdict.cameBack),
    `refused      ${frames.reduce((sum, [, count]) => sum + count, 0)} frames, ${refused.results} results of work held no more`,
    ...frames.map(([reason, count]) => `             ${String(count).padStart(6)}  ${reason}`),
    lineOfGoodput(verdict),
    ...failures.map((failure) => `broken       ${failure}`),
    `verdict      ${ok ? 'passed' : 'FAILED'}`,
  ];
}

const COLUMNS = ['p50', 'p99', 'max'] as const;

function tableOfRecoveries(recoveries: readonly RecoverySummary[]): string[] {
  const width = Math.max(...recoveries.map(({ kind }) => kind.length));
  const row = (name: string, fired: string, cells: readonly string[], note = '') =>
    `fault        ${name.padEnd(width)} ${fired.padStart(6)} ${cells.map((cell) => cell.padStart(8)).join(' ')}${note}`;
  return [
    row('', 'fired', COLUMNS, '  longest wait for a commit, ms'),
    ...recoveries.map(({ kind, fired, recovered, p50Ms, p99Ms, maxMs }) => {
      const without = recovered < fired ? `  ${fired - recovered} without a commit after it` : '';
      const cells = [p50Ms, p99Ms, maxMs].map((time) => (time === null ? '-' : String(time)));
      return row(kind, String(fired), cells, without);
    }),
  ];
}

function lineOfJoins(
  title: string,
  who: string,
  { begun, contributed, fromStart, fromHello }: JoinSummary,
): string {
  const times = contributed === 0 ? '' : `, from start ${spread(fromStart)}, from hello ${spread(fromHello)}`;
  return `${title.padEnd(13)}${begun} ${who}, ${contributed} had a slot committed${times}`;
}

function spread({ p50Ms, p99Ms, maxMs }: Spread): string {
  return `p50 ${p50Ms ?? '-'} p99 ${p99Ms ?? '-'} max ${maxMs ?? '-'} ms`;
}

function lineOfGoodput({ goodput }: Verdict): string {
  if (goodput === null) return 'goodput      unknown: no twin to compare with';
  const { share, tokensPerWorkerSecond, tokensPerWorkerSecondOfTwin } = goodput;
  return (
    `goodput      ${(share * 100).toFixed(1)} % of the capacity alive: ${formatCount(tokensPerWorkerSecond)} tokens per ` +
    `worker-second, the twin ${formatCount(tokensPerWorkerSecondOfTwin)}`
  );
}
