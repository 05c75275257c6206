/**
 * The order of the test files: those that take longest begin first, so that none of them is still at it, alone, when all others are
 * done. Vitest knows how long files take from the run before; a clean clone has had none.
 */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** By falling duration, of files that take more than about ten seconds. */
const LONGEST = [
  'integration/cluster',
  'integration/same-bits',
  'chaos/chaos',
  'integration/webgpu',
  'integration/dashboard/browser-live',
  'integration/bad-input',
  'integration/bundle',
  'integration/prepare',
  'simulation/schedules',
  'integration/dashboard/live-run',
  'integration/data-over-http',
  'integration/weights/from-weights',
  'integration/dashboard/browser-folder',
  'integration/finetune',
  'integration/dashboard/streams',
  'integration/evaluate',
  'integration/generate',
  'conformance/engines',
  'unit/model/training-model',
  'integration/inspect',
  'integration/verify',
  'integration/dashboard/door',
  'simulation/planted-faults',
  'unit/data/units',
  'unit/data/pairs',
  'integration/dashboard/tensorboard',
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
