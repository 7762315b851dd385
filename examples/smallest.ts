/**
 * The smallest program: a query that is run once, however many ask for it at the same time.
 *
 *     npx tsx examples/smallest.ts
 */
import { Console, Effect } from "effect"
import { QueryKey, QueryStateMachine, RedisStoreMemory } from "effect-query-state"

const main = Effect.gen(function*() {
  const key = yield* QueryKey.make({ db: "warehouse", query: "answer" })
  const query = yield* QueryStateMachine.make(key)

  const answer = query.run({
    // What takes long, and leaves its result behind.
    execute: () => Effect.as(Console.log("computing"), 42),
    // What gets that result.
    onCompleted: Effect.succeed(42)
  })
  yield* Console.log(yield* Effect.all([answer, answer, answer], { concurrency: "unbounded" }))
})

// `RedisStoreLive.layer({ url })` instead, and it is run once in all processes that share a Redis.
await Effect.runPromise(Effect.provide(main, RedisStoreMemory.layer))

/* Prints:

computing
[ 42, 42, 42 ]
*/
