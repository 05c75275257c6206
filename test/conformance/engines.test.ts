/**
 * One contract for every engine: it trains, it repeats itself to the bit, it agrees with the others.
 * tfjs keeps one backend per process, so each engine computes in a process of its own. An engine that
 * this machine lacks is skipped, with the reason in the test's name; webgpu computes on a software driver.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import type { EngineName } from '../../src/config/index.ts';
import { probeEngines } from '../../src/engine/index.ts';
import { type EngineReport, reportOfEngine } from '../support/engine-report.ts';
import { BUILT } from '../support/in-process.ts';
import { relativeError } from '../support/model-fixtures.ts';
import { softwareVulkan } from '../support/software-vulkan.ts';

/** Largest relative error (L2) between engines of loss and gradient: float32 sums in another order. */
const LOSS_TOLERANCE = 1e-6;
const GRADIENT_TOLERANCE = 1e-5;
const LIMIT_MS = 300_000;

Object.assign(process.env, softwareVulkan);
const probes = await probeEngines();
const sizeOf = (name: EngineName) => (name === 'webgpu' ? 'mini' : 'small');

for (const probe of probes) {
  const lacking = probe.available ? '' : ` (not here: ${probe.reason})`;
  describe.skipIf(!probe.available)(`engine ${probe.name}${lacking}`, () => {
    let report: EngineReport;
    beforeAll(async () => {
      report = await reportOfEngine(BUILT, probe.name, 1, sizeOf(probe.name));
    }, LIMIT_MS);

    it('computes a finite gradient and keeps no tensor', () => {
      expect(report.gradient.every(Number.isFinite)).toBe(true);
      expect(report.leakedTensors).toBe(0);
    });

    it(
      'gives the same bits again, also in another process',
      async () => {
        expect(report.repeatedSha256).toBe(report.sha256);
        const other = await reportOfEngine(BUILT, probe.name, 1, sizeOf(probe.name), 'gradient');
        expect(other.sha256).toBe(report.sha256);
      },
      LIMIT_MS,
    );

    it('lowers the loss by training', () => {
      expect(report.losses.at(-1)).toBeLessThan(report.losses[0]! * 0.7);
    });

    const agreeing = probes.some(({ name, available }) => name === 'tensorflow' && available);
    it.skipIf(!agreeing || probe.name === 'tensorflow')(
      `agrees with tensorflow within ${LOSS_TOLERANCE} on the loss and ${GRADIENT_TOLERANCE} on the gradient`,
      async () => {
        const other = await reportOfEngine(BUILT, 'tensorflow', 1, sizeOf(probe.name));
        expect(Math.abs(report.losses[0]! / other.losses[0]! - 1)).toBeLessThan(LOSS_TOLERANCE);
        expect(relativeError(report.gradient, other.gradient)).toBeLessThan(GRADIENT_TOLERANCE);
        const [norms, others] = [report.softNorms, other.softNorms].map((list) => Float32Array.from(list));
        expect(relativeError(norms!, others!)).toBeLessThan(GRADIENT_TOLERANCE);
      },
      LIMIT_MS,
    );
  });
}
