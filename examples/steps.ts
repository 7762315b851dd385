/**
 * A lifecycle step by step, for programs that `run` and `withExecution` do not fit: claims, leases, fences and races.
 *
 *     npx tsx examples/steps.ts
 */
import { Console, Effect } from "effect"
import { type QueryEvent, QueryKey, QueryState, QueryStateMachine, Reason } from "effect-query-state"
import { db, StoreLayer } from "./support/StoreLayer.ts"

const main = Effect.gen(function*() {
  const query = yield* QueryStateMachine.make(yield* QueryKey.make({ db, query: "monthly totals" }))

  // Takes a step, prints its result, and answers the fence of the current claim. The lease must cover the work: nothing
  // renews it here, as `withExecution` would.
  const step = Effect.fnUntraced(function*(holder: string, event: QueryEvent.QueryEvent, fence?: number) {
    const { changed, state } = yield* query.trigger(event, { fence, holder, lease: "30 seconds" })
    yield* Console.log(`${holder} ${changed ? "did" : "did not"} ${event}: it ${QueryState.descriptions[state._tag]}`)
    return QueryState.claimOf(state)?.fence
  })

  // Ada and Bob try the same step, and one of them succeeds. After that, only the fence of the claim moves the query on.
  const queued = yield* step("ada", "Queue")
  yield* step("bob", "Queue")
  yield* step("bob", "Execute")
  const executing = yield* step("ada", "Execute", queued)
  yield* step("ada", "Finish", executing)

  // A reset is claimed like a run, so no process reads the result while it is purged.
  const resetting = yield* step("bob", "Reset")
  yield* step("ada", "Reset")
  yield* step("bob", "FinishReset", resetting)

  // Every process can cancel. The claim is lost then: the store refuses its fence, and the holder gets `LeaseLost`.
  const late = yield* step("ada", "Execute", yield* step("ada", "Queue"))
  const { state } = yield* query.trigger("Cancel", { reason: Reason.requested({ by: "bob", note: "wrong month" }) })
  yield* Console.log(`bob did Cancel: it ${QueryState.format(state)}`)
  const error = yield* Effect.flip(step("ada", "Finish", late))
  yield* Console.log(`ada did not Finish: ${error._tag}`)
})

await Effect.runPromise(Effect.provide(main, StoreLayer))

/* Prints:

ada did Queue: it is queued
bob did not Queue: it is queued
bob did not Execute: it is queued
ada did Execute: it is currently running
ada did Finish: it is ready
bob did Reset: it is being reset
ada did not Reset: it is being reset
bob did FinishReset: it is known, but has not yet been run
ada did Queue: it is queued
ada did Execute: it is currently running
bob did Cancel: it was cancelled (requested by bob: wrong month)
ada did not Finish: LeaseLost
*/
