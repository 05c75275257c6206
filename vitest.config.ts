import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/shared-folder.ts'],
    setupFiles: ['test/support/property-seed.ts'],
    // Native engines and worker threads do not share a thread with others of their kind.
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 30_000,
    // The built program runs as it is: it has been compiled.
    server: { deps: { external: [/\/dist\//] } },
  },
});
