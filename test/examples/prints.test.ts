import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Bundle from "../support/bundle.ts"
import { execute } from "../support/execute.ts"
import * as RedisCluster from "../support/RedisCluster.ts"
import * as RedisServer from "../support/RedisServer.ts"

const files = Fs.readdirSync("examples").filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))

/** What an example says in its last lines that it prints. */
const printedBy = (file: string) =>
  /\n\/\* Prints:\n\n([^]*)\n\*\/\n$/.exec(Fs.readFileSync(`examples/${file}`, "utf8"))?.[1]

// Examples run at the same time, so each has servers of its own.
const stores = {
  memory: Effect.succeed({ REDIS_URL: undefined }),
  Redis: Effect.map(RedisServer.acquire(), ({ url }) => ({ REDIS_URL: url })),
  "a cluster": Effect.map(RedisCluster.acquire(), ({ primaries }) => ({
    REDIS_CLUSTER_NODES: primaries.map(({ server }) => server.url).join()
  }))
}

/** Where an example can run: processes of their own share no memory. */
const storesOf = (file: string): ReadonlyArray<keyof typeof stores> => {
  switch (file) {
    case "cluster.ts":
      return ["a cluster"]
    case "shutdown.ts":
      return ["Redis"]
    default:
      return ["memory", "Redis"]
  }
}

const cases = files.flatMap((file) => {
  const prints = printedBy(file)
  return prints === undefined ? [] : storesOf(file).map((store) => ({ file, prints, store }))
})

/** A folder with the examples as they are run. */
class Folder extends Context.Service<Folder, string>()("test/examples/Folder") {
  static readonly layer = Layer.effect(
    Folder,
    Effect.tap(
      Bundle.folder("examples"),
      (folder) => Bundle.bundle(cases.map(({ file }) => `examples/${file}`), folder)
    )
  )
}

it("the examples state their output, except two that show durations", () => {
  assert.deepStrictEqual(files.filter((file) => printedBy(file) === undefined), ["demo.ts", "flowmachine.ts"])
})

it.layer(Folder.layer, { excludeTestServices: true })("Examples", (it) => {
  it.effect.each(cases)(
    "$file prints its stated output in $store and ends",
    ({ file, prints, store }) =>
      Effect.gen(function*() {
        const env = yield* stores[store]
        const program = Path.join(yield* Folder, `${Path.parse(file).name}.mjs`)
        assert.deepStrictEqual(yield* execute(process.execPath, [program], { env }), { code: 0, output: prints })
      }),
    { concurrent: true, timeout: 60_000 }
  )
})
