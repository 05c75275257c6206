/** The metrics by Prometheus' conventions, and the Grafana dashboard that must find every one it asks for. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RunMetrics } from '../../../src/dashboard/server/prometheus.ts';
import {
  committed,
  noted,
  opened,
  overviewOf,
  START_AT,
  sampled,
  viewOf,
} from '../../support/telemetry-fixtures.ts';

const GRAFANA = join(import.meta.dirname, '..', '..', '..', 'infra', 'grafana', 'lockstep.json');

async function scrape(): Promise<string> {
  const times = { data: 1, compute: 700, wait: 100, reduce: 150, commit: 9, optimizer: 40 };
  const view = viewOf(
    opened(),
    ...Array.from({ length: 20 }, (_, index) => committed(index + 1)),
    sampled(START_AT + 20_000, { stateStep: 20 }),
    { kind: 'reported', at: START_AT, step: 19, worker: 'worker-0', times },
    noted(START_AT, 'validated', { step: 20, loss: 3 }, 'info'),
    noted(START_AT, 'checkpointStored', { step: 20 }, 'info'),
  );
  const metrics = new RunMetrics();
  const facts = { view, overview: overviewOf(view, START_AT + 20_000) };
  const first = await metrics.text(facts, null);
  // Scraped again, nothing has been counted twice.
  expect(ownLines(await metrics.text(facts, null))).toEqual(ownLines(first));
  return first;
}

function ownLines(text: string): string[] {
  return text.split('\n').filter((line) => line.startsWith('lockstep_'));
}

test('figures are those of the run, in base units, and unknown ones are left out', async () => {
  const lines = ownLines(await scrape());
  expect(lines).toContain('lockstep_step 20');
  expect(lines).toContain('lockstep_tokens_total 20000');
  expect(lines).toContain('lockstep_slots_committed_total 160');
  expect(lines).toContain('lockstep_step_seconds 1');
  expect(lines).toContain('lockstep_worker_phase_seconds{worker="worker-0",phase="compute"} 0.7');
  expect(lines).toContain('lockstep_events_total{kind="commit"} 20');
  expect(lines.filter((line) => line.includes('phase=') && line.includes('worker-1'))).toEqual([]);
});

test('names follow the conventions: counters end in _total, units are spelt out', async () => {
  const text = await scrape();
  const types = [...text.matchAll(/^# TYPE (lockstep_\w+) (\w+)$/gm)];
  expect(types.length).toBeGreaterThan(20);
  for (const [, name, type] of types) {
    expect(name!.endsWith('_total'), name).toBe(type === 'counter');
    expect(name).not.toMatch(/_(?:ms|milliseconds|kb|mb|percent)\b/);
  }
});

test('before a run there is nothing to tell but the process', async () => {
  const text = await new RunMetrics().text({ view: viewOf(), overview: null }, null);
  expect(ownLines(text)).toEqual([]);
  expect(text).toContain('process_resident_memory_bytes');
});

test('Grafana’s dashboard asks for nothing that is not there', async () => {
  const known = new Set([...(await scrape()).matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name));
  known.add('bullmq_job_count');
  const dashboard = JSON.parse(readFileSync(GRAFANA, 'utf8')) as {
    panels: { targets: { expr: string }[] }[];
  };
  const asked = dashboard.panels.flatMap(({ targets }) =>
    targets.flatMap(({ expr }) => expr.match(/\b(?:lockstep|bullmq|process)_\w+/g) ?? []),
  );
  expect(asked.length).toBeGreaterThan(15);
  expect(asked.filter((name) => !known.has(name))).toEqual([]);
});
