/**
 * The smallest program: three fibers want a query at the same time, and it is run once.
 *
 *     npx tsx examples/smallest.ts
 */
import { Console, Effect } from "effect"
import { QueryKey, QueryStateMachine, RedisStoreMemory } from "effect-query-state"

const main = Effect.gen(function*() {
  const key = yield* QueryKey.make({ db: "warehouse", query: "answer" })
  const query = yield* QueryStateMachine.make(key)

  const answer = query.run({
    // The work. A real program stores its result here.
    execute: () => Effect.as(Console.log("computing"), 42),
    // Reads the stored result.
    result: Effect.succeedSome(42)
  })
  yield* Console.log(yield* Effect.all([answer, answer, answer], { concurrency: "unbounded" }))
})

// With `RedisStoreLive.layer({ url })` it is run once in all processes that share a Redis.
await Effect.runPromise(Effect.provide(main, RedisStoreMemory.layer))

/* Prints:

computing
[ 42, 42, 42 ]
*/
