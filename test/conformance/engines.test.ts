/**
 * One contract for every engine: it trains, it repeats itself to the bit, it agrees with the others.
 * tfjs keeps one backend per process, so each engine computes in a process of its own. An engine that
 * this machine lacks is skipped, with the reason in the test's name.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { probeEngines } from '../../src/engine/index.ts';
import { compiledSource } from '../support/compiled-source.ts';
import { type EngineReport, reportOfEngine } from '../support/engine-report.ts';
import { relativeError } from '../support/model-fixtures.ts';

/** Largest relative error (L2) between engines of loss and gradient: float32 sums in another order. */
const LOSS_TOLERANCE = 1e-6;
const GRADIENT_TOLERANCE = 1e-5;

const probes = await probeEngines();
const source = await compiledSource(['base', 'engine', 'model']);

for (const probe of probes) {
  const lacking = probe.available ? '' : ` (not here: ${probe.reason})`;
  describe.skipIf(!probe.available)(`engine ${probe.name}${lacking}`, () => {
    let report: EngineReport;
    beforeAll(async () => {
      report = await reportOfEngine(source, probe.name, 1);
    }, 120_000);

    it('computes a finite gradient and keeps no tensor', () => {
      expect(report.gradient.every(Number.isFinite)).toBe(true);
      expect(report.leakedTensors).toBe(0);
    });

    it('gives the same bits again, also in another process', async () => {
      expect(report.repeatedSha256).toBe(report.sha256);
      expect((await reportOfEngine(source, probe.name, 1)).sha256).toBe(report.sha256);
    }, 120_000);

    it('lowers the loss by training', () => {
      expect(report.losses.at(-1)).toBeLessThan(report.losses[0]! * 0.7);
    });
  });
}

describe.skipIf(probes.some(({ available }) => !available))('tensorflow and wasm', () => {
  it(`agree within ${LOSS_TOLERANCE} on the loss and ${GRADIENT_TOLERANCE} on the gradient`, async () => {
    const [left, right] = [
      await reportOfEngine(source, 'tensorflow', 1),
      await reportOfEngine(source, 'wasm', 1),
    ];
    expect(Math.abs(left.losses[0]! / right.losses[0]! - 1)).toBeLessThan(LOSS_TOLERANCE);
    expect(relativeError(left.gradient, right.gradient)).toBeLessThan(GRADIENT_TOLERANCE);
  }, 120_000);
});
