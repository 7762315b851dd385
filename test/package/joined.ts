// Runs one query twice at once, as plain JavaScript just as well as TypeScript.
import { Effect } from "effect"
import { QueryKey, QueryStateMachine, RedisStoreMemory } from "effect-query-state"

const program = Effect.gen(function*() {
  const query = yield* QueryStateMachine.make(yield* QueryKey.make({ db: "warehouse", query: "daily totals" }))
  const run = query.run({
    execute: () => Effect.as(Effect.sleep("10 millis"), "computed"),
    result: Effect.succeedSome("fetched")
  })
  const answers = yield* Effect.all([run, run], { concurrency: "unbounded" })
  const state = yield* query.currentState
  console.log(...answers, state._tag)
})

await Effect.runPromise(Effect.provide(program, RedisStoreMemory.layer))
