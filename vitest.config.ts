import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/property-seed.ts'],
    // Native engines and worker threads do not share a thread with others of their kind.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
  },
});
