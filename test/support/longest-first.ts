/**
 * The order of the test files: those that take longest begin first, so that none of them is still at it, alone, when all others are
 * done. Vitest knows how long files take from the run before; a clean clone has had none.
 */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** By falling duration, of files that take more than about ten seconds. */
const LONGEST = [
  'conformance/engines',
  'integration/cluster',
  'integration/same-bits',
  'conformance/webgpu-kernels',
  'integration/bad-input',
  'integration/dashboard/browser-folder',
  'integration/dashboard/door',
  'chaos/chaos',
  'integration/dashboard/browser-live',
  'integration/webgpu',
  'conformance/webgpu-large-matrices',
  'simulation/planted-faults',
  'integration/generate',
  'integration/evaluate',
  'integration/finetune',
  'integration/data-over-http',
  'simulation/schedules',
  'unit/model/training-model',
  'integration/dashboard/streams',
  'integration/prepare',
  'integration/weights/from-weights',
  'integration/bundle',
  'property/cluster',
  'unit/model/generation',
  'integration/verify',
  'integration/dashboard/live-run',
  'integration/webgpu-sums',
  'unit/data/units',
].map((name) => join('test', `${name}.test.ts`));

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const { root } = this.ctx.config;
    const gone = LONGEST.find((path) => !existsSync(join(root, path)));
    if (gone !== undefined)
      throw new Error(`test/support/longest-first.ts names ${gone}, which is not there`);
    const place = ({ moduleId }: TestSpecification) => {
      const index = LONGEST.indexOf(relative(root, moduleId));
      return index === -1 ? LONGEST.length : index;
    };
    // The sort is stable: the others stay in vitest's own order.
    return (await super.sort(files)).sort((first, second) => place(first) - place(second));
  }
}
