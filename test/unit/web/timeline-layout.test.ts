/** The step timeline: nothing is drawn outside, phases keep their proportions, long pauses do not squeeze the steps. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { layOutTimeline } from '../../../web/charts/timeline-layout.ts';
import { PHASES, type TimelineStep, type TimelineView } from '../../../web/contract.ts';

const WIDTH = 800;

function stepAt(step: number, startedAt: number, ms: number, workers: readonly string[]): TimelineStep {
  const phases = { data: 0.01 * ms, compute: 0.6 * ms, wait: 0.1 * ms, reduce: 0.1 * ms, commit: 0.09 * ms };
  const lanes = workers.map((worker) => ({ worker, phases: { ...phases, optimizer: 0.1 * ms } }));
  return { step, attempt: 1, repeated: false, startedAt, endedAt: startedAt + ms, lanes };
}

describe('the step timeline', () => {
  it('draws each phase in proportion to its time', () => {
    const steps = [stepAt(1, 0, 1000, ['a', 'b']), stepAt(2, 1000, 3000, ['a'])];
    const { marks, spans } = layOutTimeline({ workers: ['a', 'b'], steps }, WIDTH);
    expect(spans).toEqual([
      { x: 0, width: 200 },
      { x: 200, width: 600 },
    ]);
    const computing = marks.filter(({ phase }) => phase === 'compute');
    expect(computing.map(({ lane, step, width }) => [lane, step, Math.round(width)])).toEqual([
      [0, 0, 120],
      [1, 0, 120],
      [0, 1, 360],
    ]);
  });

  it('cuts a pause that is longer than a step, and says how long it was', () => {
    const steps = [stepAt(1, 0, 1000, ['a']), stepAt(2, 61_000, 1000, ['a']), stepAt(3, 62_200, 1000, ['a'])];
    const { spans, cuts } = layOutTimeline({ workers: ['a'], steps }, 4200);
    expect(cuts).toEqual([{ x: 1500, milliseconds: 60_000 }]);
    expect(spans.map(({ x }) => Math.round(x))).toEqual([0, 2000, 3200]);
  });

  it('keeps every mark inside, without overlap within a lane, also when clocks disagree', () => {
    const time = fc.integer({ min: 0, max: 20_000 });
    const stepArbitrary = fc.record({
      pause: time,
      length: time,
      lanes: fc.uniqueArray(
        fc.record({
          worker: fc.constantFrom('a', 'b', 'c', 'unknown'),
          times: fc.array(time, { minLength: 6, maxLength: 6 }),
        }),
        { selector: ({ worker }) => worker },
      ),
    });
    fc.assert(
      fc.property(fc.array(stepArbitrary, { maxLength: 12 }), (drawn) => {
        let at = 0;
        const steps = drawn.map(({ pause, length, lanes }, index): TimelineStep => {
          const startedAt = at + pause;
          at = startedAt + length;
          const withPhases = lanes.map(({ worker, times }) => ({
            worker,
            phases: Object.fromEntries(
              PHASES.map((phase, which) => [phase, times[which]!]),
            ) as TimelineStep['lanes'][0]['phases'],
          }));
          return { step: index + 1, attempt: 1, repeated: false, startedAt, endedAt: at, lanes: withPhases };
        });
        const view: TimelineView = { workers: ['a', 'b', 'c'], steps };
        const { marks, spans } = layOutTimeline(view, WIDTH);
        for (const { x, width, step, lane } of marks) {
          const span = spans[step]!;
          expect(lane).toBeLessThan(3);
          expect(x).toBeGreaterThanOrEqual(span.x - 1e-6);
          expect(x + width).toBeLessThanOrEqual(span.x + span.width + 1e-6);
        }
        for (const lane of [0, 1, 2]) {
          let end = 0;
          for (const { x, width } of marks.filter((mark) => mark.lane === lane)) {
            expect(x).toBeGreaterThanOrEqual(end - 1e-6);
            end = x + width;
          }
        }
        const last = spans.at(-1);
        if (last !== undefined) expect(last.x + last.width).toBeCloseTo(WIDTH, 6);
      }),
    );
  });
});
