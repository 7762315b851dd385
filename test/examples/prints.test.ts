import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import { inject } from "vitest"
import { bin, execute } from "../support/execute.ts"
import * as RedisCluster from "../support/RedisCluster.ts"

const files = Fs.readdirSync("examples").filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))

/** What an example says in its last lines that it prints. */
const printedBy = (file: string) =>
  /\n\/\* Prints:\n\n([^]*)\n\*\/\n$/.exec(Fs.readFileSync(`examples/${file}`, "utf8"))?.[1]

const stores = {
  memory: Effect.succeed({ REDIS_URL: undefined }),
  Redis: Effect.sync(() => ({ REDIS_URL: inject("redisUrl") })),
  "a cluster": Effect.map(RedisCluster.acquire(), ({ primaries }) => ({
    REDIS_CLUSTER_NODES: primaries.map(({ server }) => server.url).join()
  }))
}

const cases = files.flatMap((file) => {
  const prints = printedBy(file)
  const where = file === "cluster.ts" ? ["a cluster"] as const : ["memory", "Redis"] as const
  return prints === undefined ? [] : where.map((store) => ({ file, prints, store }))
})

describe("Examples", () => {
  it("the examples state their output, except two that show durations", () => {
    assert.deepStrictEqual(files.filter((file) => printedBy(file) === undefined), ["demo.ts", "flowmachine.ts"])
  })

  it.live.each(cases)(
    "$file prints its stated output in $store and ends",
    ({ file, prints, store }) =>
      Effect.scoped(Effect.gen(function*() {
        const env = yield* stores[store]
        assert.deepStrictEqual(yield* execute(bin("tsx"), [`examples/${file}`], { env }), { code: 0, output: prints })
      })),
    60_000
  )
})
