/**
 * What is wrong with a run, each in one sentence with what to do about it, worst first. Rules look at the
 * view and at the time they are asked at, nothing else. Pure.
 */
import type { Problem, RunState, WorkerRow } from '../contract.ts';

/** How long something that is over still counts as news. */
export const RECENT_MS = 10 * 60_000;
const QUEUE_TROUBLE_MS = 30_000;
const NO_MEMBER_MS = 10_000;
/** Aborted attempts within RECENT_MS that are more than an accident. */
const ABORTS_MANY = 3;

export interface Trouble {
  readonly at: number;
  readonly text: string;
}

export interface Findings {
  readonly state: RunState;
  /** Why the run failed, or null. */
  readonly failure: string | null;
  readonly updatedAt: number;
  /** Since when no worker has been a member; null while one is. */
  readonly memberlessSince: number | null;
  readonly rows: readonly WorkerRow[];
  /** Newest of each, or null. */
  readonly queueTrouble: Trouble | null;
  readonly checkpointTrouble: Trouble | null;
  readonly refusal: Trouble | null;
  readonly divergence: Trouble | null;
  readonly recordTrouble: Trouble | null;
  readonly abortsAt: readonly number[];
}

export function problemsOf(findings: Findings, nowAt: number): Problem[] {
  const { state, failure, updatedAt } = findings;
  if (state === 'failed') {
    const remedy = 'Mend what the line says, then start again with --resume: the commit log stands.';
    return [error('failed', `The run failed: ${failure ?? 'no reason was recorded'}.`, remedy)];
  }
  if (state === 'completed' || state === 'stopped') return [];
  if (state === 'silent') {
    const silence = inWords(nowAt - updatedAt);
    const remedy = 'See whether its process and disk are well; if it is gone, start it again with --resume.';
    return [error('silent', `The coordinator has recorded nothing for ${silence}.`, remedy)];
  }
  return [...errorsOf(findings, nowAt), ...warningsOf(findings, nowAt)];
}

function errorsOf({ memberlessSince, rows, divergence, queueTrouble }: Findings, nowAt: number): Problem[] {
  const problems: Problem[] = [];
  const isJoining = rows.some(({ state }) => state === 'preparing' || state === 'joining');
  if (memberlessSince !== null && !isJoining && nowAt - memberlessSince > NO_MEMBER_MS) {
    const remedy = 'Start workers with `lockstep worker`; see the log of those that were lost.';
    problems.push(error('noWorkers', 'No worker takes part, so nothing is computed.', remedy));
  }
  if (isRecent(divergence, nowAt)) {
    const remedy = 'Suspect that host’s memory or device; the others go on with equal bits.';
    problems.push(error('divergence', sentence(divergence.text), remedy));
  }
  if (isRecent(queueTrouble, nowAt, QUEUE_TROUBLE_MS)) {
    const remedy = 'See that Redis runs and can be reached; what waits is enqueued again by itself.';
    problems.push(error('queue', sentence(queueTrouble.text), remedy));
  }
  return problems;
}

function warningsOf(findings: Findings, nowAt: number): Problem[] {
  const problems: Problem[] = [];
  for (const { name, state, reason, endedAt } of findings.rows) {
    if (state !== 'lost' || endedAt === null || nowAt - endedAt > RECENT_MS) continue;
    const remedy = 'See its log; start it again and it enters at the next step. The others do its slots.';
    problems.push(warning('workerLost', `${name} was lost: ${reason ?? 'no reason was recorded'}.`, remedy));
  }
  for (const { name, straggler, host } of findings.rows) {
    if (!straggler) continue;
    const remedy = `See what else ${host} does; drain it if it stays slow. It is given fewer slots meanwhile.`;
    problems.push(warning('straggler', `${name} computes far slower than the others.`, remedy));
  }
  const aborts = findings.abortsAt.filter((at) => nowAt - at <= RECENT_MS).length;
  if (aborts >= ABORTS_MANY) {
    const text = `${aborts} attempts at reducing a step were given up within ten minutes.`;
    problems.push(
      warning('aborts', text, 'Look at the network between the workers; the history names them.'),
    );
  }
  if (isRecent(findings.checkpointTrouble, nowAt)) {
    const remedy = 'The next commit tries again; see that the disk has room.';
    problems.push(warning('checkpoint', sentence(findings.checkpointTrouble.text), remedy));
  }
  if (isRecent(findings.refusal, nowAt)) {
    const remedy = 'Start it with this run’s token, version, engine and data set.';
    problems.push(warning('refused', sentence(findings.refusal.text), remedy));
  }
  if (isRecent(findings.recordTrouble, nowAt)) {
    const remedy =
      'Training goes on; charts have a gap until the run is started again with room on its disk.';
    problems.push(warning('record', sentence(findings.recordTrouble.text), remedy));
  }
  return problems;
}

function isRecent(trouble: Trouble | null, nowAt: number, withinMs = RECENT_MS): trouble is Trouble {
  return trouble !== null && nowAt - trouble.at <= withinMs;
}

function inWords(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 120) return `${seconds} seconds`;
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} minutes`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} hours` : `${Math.round(seconds / 86_400)} days`;
}

/** A note begins in lower case and ends without a stop, as log lines do. */
function sentence(text: string): string {
  const stop = /[.!?]$/.test(text) ? '' : '.';
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${stop}`;
}

function error(kind: string, text: string, remedy: string): Problem {
  return { level: 'error', kind, text, remedy };
}

function warning(kind: string, text: string, remedy: string): Problem {
  return { level: 'warning', kind, text, remedy };
}
