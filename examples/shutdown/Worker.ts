/**
 * A process that wants the totals. It computes them, or waits for the process that does. When it is interrupted, its run hands
 * the query over, before the connection to Redis is closed.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Config, Console, Effect, FileSystem, Layer } from "effect"
import { QueryKey, QueryState, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { db } from "../support/StoreLayer.ts"

const wantTotals = Effect.fnUntraced(function*(name: string) {
  const file = yield* Config.String("RESULT_FILE")
  const millis = yield* Config.Number("WORK_MILLIS")
  const fs = yield* FileSystem.FileSystem
  const say = (text: string) => Console.log(`${name} ${text}`)

  const query = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db, query: "totals" }))
  yield* say(`asks: the query ${QueryState.format(yield* query.currentState)}`)

  const rows = yield* query.run({
    holder: name,
    execute: () =>
      Effect.gen(function*() {
        yield* say("computes")
        yield* Effect.sleep(millis)
        yield* fs.writeFileString(file, "1,204 rows")
        return "1,204 rows"
      }).pipe(Effect.onInterrupt(() => say("is stopped, and cleans up"))),
    // No file, no result.
    result: Effect.option(fs.readFileString(file))
  })
  yield* say(`has ${rows}`)
})

const StoreLayer = RedisStoreLive.layerConfig({
  url: Config.Redacted("REDIS_URL"),
  prefix: Config.String("PREFIX")
})

export const main = (name: string) => Effect.provide(wantTotals(name), Layer.merge(StoreLayer, NodeFileSystem.layer))
