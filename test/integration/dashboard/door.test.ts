/** Bad input at the dashboard's door: tokens, hosts, folders without a run, damaged and foreign records. */

import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Overview, SeriesView } from '../../../src/dashboard/contract.ts';
import { ask, type DashboardRun, startWithDashboard } from '../../support/dashboard-run.ts';
import { runInProcess } from '../../support/in-process.ts';
import { committed, opened } from '../../support/telemetry-fixtures.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { runRecords, STEPS, tokensUpTo, writeLog } from '../../support/verifiable-run.ts';

const TOKEN = 'a-token-for-the-dashboard';
const LIMIT_MS = 60_000;
const open: DashboardRun[] = [];
afterEach(async () => {
  for (const shown of open.splice(0)) await shown.end();
});

async function show(dir: string, flags: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
  const shown = await startWithDashboard(['dashboard', dir, '--port', '0', ...flags], env);
  open.push(shown);
  return shown;
}

const statusOf = async (shown: DashboardRun, path: string, init?: RequestInit) =>
  (await fetch(new URL(path, shown.url), init)).status;

describe('a token', { timeout: LIMIT_MS }, () => {
  test('is asked for everywhere but for health and the page’s own files; a wrong one is told nothing', async () => {
    const shown = await show(await folderWithRun(), [], { LOCKSTEP_DASHBOARD_TOKEN: TOKEN });
    for (const path of [
      'api/overview',
      'api/events',
      'api/nothing',
      'metrics',
      'queues',
      'queues/api/queues',
    ]) {
      const response = await fetch(new URL(path, shown.url), { headers: { authorization: 'Bearer wrong' } });
      expect([path, response.status, await response.text()]).toEqual([path, 401, '{"error":"unauthorized"}']);
    }
    expect(await statusOf(shown, 'healthz')).toBe(200);
    const session = await ask<{ csrf: null }>(shown, 'api/session');
    expect(session).toMatchObject({ needsToken: true, authorized: false, csrf: null });
    const bearer = { headers: { authorization: `Bearer ${TOKEN}` } };
    expect(await statusOf(shown, 'metrics', bearer)).toBe(200);
  });

  test('once given, a cookie stands for it', async () => {
    const shown = await show(await folderWithRun(), [], { LOCKSTEP_DASHBOARD_TOKEN: TOKEN });
    const give = (token: string) =>
      fetch(new URL('api/session', shown.url), {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ token }),
      });
    expect((await give('wrong')).status).toBe(401);
    const response = await give(TOKEN);
    expect(response.status).toBe(204);
    const cookie = response.headers.get('set-cookie')!.split(';')[0]!;
    expect(await statusOf(shown, 'api/overview', { headers: { cookie } })).toBe(200);
    expect(await statusOf(shown, 'api/overview', { headers: { cookie: `${cookie}x` } })).toBe(401);
  });

  test('is made up and shown beyond loopback; a short one is refused', async () => {
    const shown = await show(await folderWithRun(), ['--host', '0.0.0.0']);
    const local = new URL(shown.url);
    local.hostname = '127.0.0.1';
    expect((await fetch(new URL('api/overview', local))).status).toBe(401);
    shown.running.kill('SIGINT');
    const { stdout } = await shown.running.finished;
    expect(stdout).toMatch(/^dashboard: http:\/\/0\.0\.0\.0:\d+\/, token [\w-]{32}$/m);
    const short = await runInProcess(['dashboard', '.', '--port', '0'], {
      env: { LOCKSTEP_DASHBOARD_TOKEN: 'short' },
    });
    expect(short.code).toBe(1);
    expect(short.stderr).toMatch(/^lockstep: CONFIG_INVALID: LOCKSTEP_DASHBOARD_TOKEN is shorter.*\n$/);
  });
});

describe('without a token', { timeout: LIMIT_MS }, () => {
  test('a page that reaches this machine under a name of its own is refused', async () => {
    const shown = await show(await folderWithRun());
    const port = Number(new URL(shown.url).port);
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const asked = request({
        host: '127.0.0.1',
        port,
        path: '/api/overview',
        headers: { host: 'evil.example' },
      });
      asked.once('response', (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      asked.once('error', reject);
      asked.end();
    });
    expect(status).toBe(421);
  });

  test('every answer forbids what the page does not need', async () => {
    const shown = await show(await folderWithRun());
    for (const path of ['api/overview', 'api/nothing', '']) {
      const { headers } = await fetch(new URL(path, shown.url));
      const policy = headers.get('content-security-policy');
      expect(policy, path).toMatch(/^default-src 'none'; script-src 'self'; /);
      expect(policy).not.toMatch(/unsafe|https?:|\*/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
  });

  test('a port that is taken is one line', async () => {
    const shown = await show(await folderWithRun());
    const { port } = new URL(shown.url);
    const { code, stderr } = await runInProcess(['dashboard', '.', '--port', port]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^lockstep: ADDRESS_IN_USE: cannot serve the dashboard on 127\.0\.0\.1:\d+: .*\n$/,
    );
  });
});

describe('a folder', { timeout: LIMIT_MS }, () => {
  test('without a run says so, and shows the run when there is one', async () => {
    const dir = await temporaryFolder();
    const shown = await show(dir);
    const response = await fetch(new URL('api/overview', shown.url));
    expect([response.status, await response.json()]).toEqual([
      404,
      { error: expect.stringMatching(/holds no run yet$/) },
    ]);
    expect(await statusOf(shown, 'readyz')).toBe(503);
    expect(await statusOf(shown, 'api/data')).toBe(409);
    writeMetrics(dir, 3);
    await vi.waitFor(async () => expect((await ask<Overview>(shown, 'api/overview')).step).toBe(3));
    const { code, stderr } = await runInProcess(['status', join(dir, 'elsewhere')]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^lockstep: DATA_MISSING: .* holds no run: .*\n$/),
    ]);
  });

  test('of a run without metrics is shown from its commit log', async () => {
    const dir = await temporaryFolder();
    await writeLog(dir, runRecords());
    const shown = await show(dir);
    const told = await ask<Overview>(shown, 'api/overview');
    const { step } = await ask<SeriesView>(shown, 'api/series');
    expect(step).toEqual(Array.from({ length: STEPS }, (_, index) => index + 1));
    expect(told).toMatchObject({ step: STEPS, tokensSeen: tokensUpTo(STEPS), problems: [] });
    // Asked again, nothing is counted twice.
    expect((await ask<Overview>(shown, 'api/overview')).tokensSeen).toBe(told.tokensSeen);
  });

  test('is read once, however many ask at the same time while it grows', async () => {
    const dir = await temporaryFolder();
    writeMetrics(dir, 2000);
    const shown = await show(dir);
    const more = Array.from({ length: 3000 }, (_, index) => `${JSON.stringify(committed(2001 + index))}\n`);
    appendFileSync(join(dir, 'metrics.jsonl'), more.join(''));
    const all = await Promise.all(Array.from({ length: 20 }, () => ask<Overview>(shown, 'api/overview')));
    expect(all.map(({ step, tokensSeen }) => [step, tokensSeen])).toEqual(all.map(() => [5000, 5_000_000]));
  });

  test('with records of another version, and damage, is shown as far as it is understood', async () => {
    const dir = await temporaryFolder();
    writeMetrics(dir, 5, ['{"kind":"dreamt","at":1}', 'no JSON', '{"kind":"committed","step":"three"}']);
    const shown = await show(dir);
    expect((await ask<SeriesView>(shown, 'api/series')).step).toEqual([1, 2, 3, 4, 5]);
  });

  test('with a damaged commit log is an error that names the line', async () => {
    const dir = await temporaryFolder();
    writeFileSync(join(dir, 'commits.log'), 'x\ny\n');
    const { code, stderr } = await runInProcess(['dashboard', dir, '--port', '0']);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^lockstep: HISTORY_CORRUPT: .*line 1 .*\n$/)]);
  });

  test('of a hundred thousand steps is one page of bounded size, soon', async () => {
    const dir = await temporaryFolder();
    writeMetrics(dir, 100_000);
    const shown = await show(dir);
    const response = await fetch(new URL('api/series', shown.url));
    const text = await response.text();
    expect(text.length).toBeLessThan(100_000);
    expect((JSON.parse(text) as SeriesView).step.at(-1)).toBe(100_000);
  });
});

async function folderWithRun(): Promise<string> {
  const dir = await temporaryFolder();
  writeMetrics(dir, 3);
  return dir;
}

function writeMetrics(dir: string, steps: number, foreign: readonly string[] = []): void {
  mkdirSync(dir, { recursive: true });
  const commits = Array.from({ length: steps }, (_, index) => JSON.stringify(committed(index + 1)));
  const lines = [JSON.stringify(opened({ totalSteps: 200_000 })), ...foreign, ...commits];
  writeFileSync(join(dir, 'metrics.jsonl'), lines.map((line) => `${line}\n`).join(''));
}
