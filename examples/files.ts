/**
 * A query whose results are large, and are kept in files. In Redis there is only where a result is.
 *
 *     npx tsx examples/files.ts
 */
import { NodeFileSystem, NodePath } from "@effect/platform-node"
import { Console, Effect, FileSystem, Layer, Schema } from "effect"
import { Query } from "effect-query-state"
import { KeyValueStore } from "effect/persistence"
import { db, StoreLayer } from "./support/StoreLayer.ts"

const HeatMap = Query.make("HeatMap", {
  db,
  payload: { day: Schema.String },
  success: Schema.Array(Schema.Int),
  results: "KeyValueStore"
})

const HeatMapLive = HeatMap.toLayer(({ day }) =>
  Effect.as(Console.log(`computing ${day}`), Array.from({ length: 100_000 }, (_, cell) => cell % 7))
)

// All processes need the same folder. `KeyValueStore.layerSql` keeps the entries in a table instead.
const Files = Layer.unwrap(Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  return KeyValueStore.layerFileSystem(yield* files.makeTempDirectoryScoped())
})).pipe(Layer.provide([NodeFileSystem.layer, NodePath.layer]))

const main = Effect.gen(function*() {
  const run = HeatMap.run({ day: "2026-11-24" })
  const maps = yield* Effect.all([run, run, run], { concurrency: "unbounded" })
  yield* Console.log(`${maps.length} callers got ${maps[0].length} cells each`)

  const entries = yield* KeyValueStore.KeyValueStore
  yield* Console.log(`one result, and a list beside it: ${yield* entries.size} files`)

  // Forgets the result, and removes its file.
  yield* HeatMap.invalidate({ day: "2026-11-24" })
  yield* Console.log(`after invalidate: ${yield* entries.size} files`)
})

await Effect.runPromise(Effect.provide(main, Layer.provideMerge(HeatMapLive, Layer.merge(StoreLayer, Files))))

/* Prints:

computing 2026-11-24
3 callers got 100000 cells each
one result, and a list beside it: 2 files
after invalidate: 0 files
*/
