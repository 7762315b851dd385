import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

// On Node.js 20, which lacks this, Vitest 5 cannot report the tests that fail.
if (!("groupBy" in Map)) {
  Object.assign(Map, {
    groupBy: <K, A>(items: Iterable<A>, keyOf: (item: A, index: number) => K) => {
      const groups = new Map<K, Array<A>>()
      let index = 0
      for (const item of items) {
        const key = keyOf(item, index++)
        const group = groups.get(key)
        if (group === undefined) groups.set(key, [item])
        else group.push(item)
      }
      return groups
    }
  })
}

export default defineConfig({
  resolve: {
    tsconfigPaths: true
  },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: "library",
          include: ["test/**/*.test.ts", "examples/*.test.ts"],
          exclude: ["test/package/**"],
          globalSetup: "test/support/globalSetup.ts"
        }
      },
      { extends: true, test: { name: "package", include: ["test/package/*.test.ts"] } }
    ],
    pool: "forks",
    // A process of its own, with its own copy of every module, would cost each file a second of computing. No file needs
    // one: tests share servers, not modules with a state.
    isolate: false,
    // Most tests wait most of the time: on two cores, one worker would leave both idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    watch: false,
    testTimeout: 30_000,
    hookTimeout: 60_000
  }
})
