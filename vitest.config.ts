import { defineConfig } from 'vitest/config';

/** Unit tests that replace modules or look at which are loaded. */
const ALONE = [
  'test/unit/cli/actions/inspect.test.ts',
  'test/unit/cli/context.test.ts',
  'test/unit/cli/program.test.ts',
  'test/unit/passes/inline-functions.test.ts',
];

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    // Two workers whose sessions use all cores each wait for one another.
    env: { WANQ_RUNTIME_THREADS: '1' },
    projects: [
      {
        extends: true,
        test: {
          name: 'alone',
          include: [...['integration', 'e2e', 'hostile'].map((kind) => `test/${kind}/**/*.test.ts`), ...ALONE],
        },
      },
      {
        extends: true,
        // A third of the time of pure tests is loading the same modules for each file.
        test: { name: 'together', include: ['test/unit/**/*.test.ts'], exclude: ALONE, isolate: false },
      },
    ],
  },
});
