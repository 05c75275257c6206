/** The verdict of `lockstep chaos` as a person reads it: one line for each thing that was to be proven. */
import type { RecoverySummary, Verdict } from '../chaos/index.ts';

export function linesOfVerdict(verdict: Verdict): string[] {
  const { ok, failures, digest, expectedDigest, ledger, recoveries, refused, workersLost, goodput } = verdict;
  const same = digest === expectedDigest ? 'the same as undisturbed' : `undisturbed ${expectedDigest}`;
  return [
    `weights      ${digest ?? 'none'}, ${same}`,
    `steps        ${ledger.steps} of ${ledger.stepsExpected}`,
    `slots        ${ledger.lost} lost, ${ledger.doubled} counted twice`,
    ...recoveries.map(lineOfRecovery),
    `lost         ${workersLost} workers; ${refused.evictions} evicted and back as new ones`,
    `refused      ${refused.frames} kinds of frames, ${refused.results} results of work held no more`,
    `goodput      ${goodput === null ? 'unknown: no twin to compare with' : `${(goodput * 100).toFixed(1)} % of the twin's tokens per worker-second`}`,
    ...failures.map((failure) => `broken       ${failure}`),
    `verdict      ${ok ? 'passed' : 'FAILED'}`,
  ];
}

function lineOfRecovery({ kind, fired, recovered, p50Ms, p99Ms, maxMs }: RecoverySummary): string {
  const times =
    p50Ms === null || p99Ms === null || maxMs === null
      ? 'no commit came after it'
      : `next commit after p50 ${p50Ms} ms, p99 ${p99Ms} ms, max ${maxMs} ms` +
        (recovered < fired ? ` (${fired - recovered} without one)` : '');
  return `fault        ${kind} x ${fired}${fired === 0 ? '' : `: ${times}`}`;
}
