/** The state's way over HTTP, from the worker's end: a transfer is given up as soon as it is for nobody any more. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { SECTIONS } from '../../src/base/index.ts';
import { deriveKey } from '../../src/protocol/index.ts';
import { downloadState, takeSnapshot, uploadSnapshot } from '../../src/worker/state-transfer.ts';
import { Recorder } from '../support/waiting.ts';

const FLOATS = 16;
/** Far beyond what the test may take. */
const PIECE_LIMIT_MS = 600_000;

/** A coordinator that is asked and never answers. */
async function startSilent() {
  const asked = new Recorder<string>();
  const server = createServer(({ method, url }) => asked.record(`${method} ${url}`));
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const httpUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const target = { httpUrl, run: 'r', pieceLimitMs: PIECE_LIMIT_MS, key: deriveKey('token', 'http') };
  return { asked, target };
}

function emptyState() {
  const [parameters, firstMoment, secondMoment, reduced] = [...SECTIONS, 'reduced'].map(
    () => new Float32Array(FLOATS),
  ) as [Float32Array, Float32Array, Float32Array, Float32Array];
  return { parameters, firstMoment, secondMoment, reduced, blockSums: new Float64Array(1) };
}

test.each(['PUT', 'GET'] as const)('a %s that hangs ends when the worker is evicted', async (method) => {
  const { asked, target } = await startSilent();
  const evicted = new AbortController();
  const order = { step: 5, attempt: 1, offset: 0, length: FLOATS };
  const transfer =
    method === 'PUT'
      ? uploadSnapshot(target, await takeSnapshot(emptyState(), order), evicted.signal)
      : downloadState(target, 5, emptyState(), evicted.signal);
  const failed = expect(transfer).rejects.toMatchObject({ code: 'COORDINATOR_LOST' });
  await asked.until(1);
  evicted.abort();
  await failed;
  expect(asked.all, 'no other piece was tried').toHaveLength(1);
  expect(asked.all[0]).toMatch(new RegExp(`^${method} /runs/r/checkpoints/5/parameters\\?`));
});
