/**
 * `lockstep chaos` with real processes: a short run that is struck by one fault of each kind keeps its
 * promises, a wrong digest fails it, and nothing is left behind, even when chaos itself is killed.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAULT_KINDS, type Verdict } from '../../src/chaos/index.ts';
import { runInProcess } from '../support/in-process.ts';
import {
  digestOf,
  preparedFolder,
  processesMentioning,
  run,
  start,
  succeed,
} from '../support/lockstep-command.ts';

const LIMIT_MS = 240_000;
const STEPS = 8;
/** Each of the fifteen kinds strikes once within 32 s, about a second apart at least, and nothing after them. */
const PLAN = ['--minutes', '0.58', '--faults-per-hour', '1600', '--fault-seed', '6836', '--workers', '3'];

let dir = '';
let data = '';
let remove = () => {};
/** Of an undisturbed run of `STEPS` steps. */
let undisturbed = '';

beforeAll(async () => {
  ({ dir, data, remove } = await preparedFolder());
  const calm = join(dir, 'undisturbed');
  await succeed(['train', '--data', data, '--run', calm, '--steps', String(STEPS)]);
  undisturbed = (await digestOf(calm)).split(' ')[0]!;
}, LIMIT_MS);
afterAll(() => remove());

function chaosArgs(name: string, ...more: string[]): string[] {
  const settings = ['--set', 'checkpoint.every=4', '--set', 'network.heartbeatLimitMs=1000'];
  return ['chaos', '--data', data, '--run', join(dir, name), ...settings, ...more, '--json'];
}

const steps = ['--steps', String(STEPS)];

function verdictIn(stdout: string): Verdict {
  const lines = stdout.trim().split('\n');
  expect(lines, 'the verdict is one line').toHaveLength(1);
  return JSON.parse(lines[0]!) as Verdict;
}

/** Waits for `folder` to be mentioned by none, which the kernel sees to soon after the parent's end. */
async function noneMentioning(folder: string, limitMs = 5000): Promise<number[]> {
  const untilMs = performance.now() + limitMs;
  for (;;) {
    const left = processesMentioning(folder);
    if (left.length === 0 || performance.now() > untilMs) return left;
    await sleep(50);
  }
}

function loggedLines(file: string, event: string): number {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.filter((line) => (JSON.parse(line) as { event?: string }).event === event).length;
}

/** Whether the kernel holds it after SIGSTOP (proc(5): the state follows the name in brackets). */
function isStopped(pid: number): boolean {
  try {
    return /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    // It has ended since.
    return false;
  }
}

describe('lockstep chaos', () => {
  it('passes a run that every kind of fault struck, by the clock', { timeout: LIMIT_MS }, async () => {
    const { code, stdout, stderr } = await run(chaosArgs('struck', '--throttle', '100', ...PLAN));
    const verdict = verdictIn(stdout);
    expect(verdict.failures, stderr).toEqual([]);
    expect(code).toBe(0);
    expect(verdict.digest).toBe(verdict.expectedDigest);
    const { lost, doubled, steps: committed, stepsExpected } = verdict.ledger;
    expect({ lost, doubled, committed }).toEqual({ lost: 0, doubled: 0, committed: stepsExpected });
    expect(verdict.recoveries.map(({ kind, fired }) => [kind, fired])).toEqual(
      FAULT_KINDS.map((kind) => [kind, 1]),
    );
    // Who is lost depends on who is missed before it is back, so on the machine.
    expect(verdict.workersLost, 'as the coordinator says itself').toBe(
      loggedLines(join(dir, 'struck', 'disturbed', 'logs', 'coordinator.log'), 'workerLost'),
    );
    expect(verdict.refused.evictions, 'the coordinator that came back knew no worker').toBeGreaterThan(0);
    expect(verdict.joined.begun, 'the killed worker was started anew').toBe(1);
    expect(verdict.goodput?.share).toBeGreaterThan(0);
    const kept: unknown = JSON.parse(readFileSync(join(dir, 'struck', 'verdict.json'), 'utf8'));
    expect(kept, 'the verdict is kept in a file as well').toEqual(JSON.parse(stdout));
    expect(processesMentioning(join(dir, 'struck')), 'no process is left behind').toEqual([]);
  });

  it('fails a run whose weights are not those that were expected, and one that no fault reached', {
    timeout: LIMIT_MS,
  }, async () => {
    const other = undisturbed.replace(/^./, (digit) => (digit === '0' ? '1' : '0'));
    const calm = ['--workers', '2', '--faults', 'kill-worker', '--faults-per-hour', '1'];
    const { code, stdout, stderr } = await run(chaosArgs('calm', ...steps, ...calm, '--expect', other));
    expect(code, stderr).toBe(1);
    const verdict = verdictIn(stdout);
    expect(verdict.ok).toBe(false);
    expect(verdict.digest).toBe(undisturbed);
    expect(verdict.failures).toEqual([
      `the weights have digest ${undisturbed}, those of the undisturbed run ${other}`,
      'the run was over before kill-worker struck: raise --steps, --minutes or --faults-per-hour',
    ]);
  });

  it.each(['SIGINT', 'SIGKILL'] as const)(
    'leaves nothing behind after %s',
    {
      timeout: LIMIT_MS,
    },
    async (signal) => {
      const name = `ended-by-${signal}`;
      // Someone is frozen nearly all the time: the frozen cannot be asked to go.
      const frozen = ['--faults', 'freeze-worker', '--faults-per-hour', '7200', '--throttle', '300'];
      const chaos = start(chaosArgs(name, ...steps, ...frozen, '--expect', undisturbed));
      const folder = join(dir, name);
      let isRunning = true;
      void chaos.finished.then(() => {
        isRunning = false;
      });
      while (isRunning && !processesMentioning(folder).some(isStopped)) await sleep(20);
      expect(isRunning, 'it was still at it when someone was frozen').toBe(true);
      chaos.kill(signal);
      const { code } = await chaos.finished;
      if (signal === 'SIGINT') expect(code).toBe(130);
      expect(await noneMentioning(folder)).toEqual([]);
    },
  );

  it.each([
    [['--expect', 'abc'], /--expect abc: expected a digest of 64 hex digits/],
    [['--faults', 'kill-worker,burn-worker'], /expected kinds of kill-worker/],
    [['--workers', '0'], /expected 1 or more/],
    [['--workers', '1'], /--workers 1: cut-worker-peer needs 2 or more/],
    [['--minutes', '0'], /expected a number above 0/],
    [['--minutes', '1', '--steps', '9'], /--minutes 1 with --steps 9: one of them ends the run/],
    [['--minutes', '1', '--expect', 'a'.repeat(64)], /--expect with --minutes 1: .*use --steps/],
  ])('refuses %j in one line, and writes nothing', async (flags, said) => {
    const { code, stderr } = await runInProcess(chaosArgs('refused', ...flags));
    expect(code).toBe(1);
    expect(stderr).toMatch(said);
    expect(existsSync(join(dir, 'refused'))).toBe(false);
  });
});
