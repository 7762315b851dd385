/** Resets under a claim: what holds for all claimed work, and what holds only for resets, which cannot be cancelled. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Option } from "effect"
import { QueryState } from "effect-query-state"
import * as ClaimedWork from "../conformance/ClaimedWork.ts"
import * as Claims from "../conformance/claims.ts"
import * as Outcomes from "../conformance/outcomes.ts"
import { inMemory } from "../support/inMemory.ts"
import { outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"

Outcomes.suite(ClaimedWork.resetting)
Claims.suite(ClaimedWork.resetting)

for (const tag of ClaimedWork.resetting.from) {
  inMemory(`a query that is ${tag} is reset, and is Known after the purge`, () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs(tag)
      const reset = yield* timeline.at(0, query.withReset(() => Effect.as(Effect.sleep("5 seconds"), "purged")))
      yield* timeline.until("4999 millis")
      assert.isTrue(yield* query.isResetting)
      yield* timeline.until("5 seconds")
      assert.deepStrictEqual(outcomeOf(reset.pollUnsafe() ?? assert.fail("it has not ended")), { succeeded: "purged" })
      assert.isTrue(yield* query.isKnown)
    }))
}

inMemory("a reset cannot be cancelled, and the attempt does no harm", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Completed")
    const reset = yield* timeline.at(0, query.withReset(() => Effect.sleep("5 seconds")))
    yield* timeline.until("3 seconds")
    const { changed, state } = yield* query.cancel
    assert.deepStrictEqual([changed, state._tag], [false, "Resetting"])
    yield* timeline.until("5 seconds")
    assert.deepStrictEqual(outcomeOf(reset.pollUnsafe() ?? assert.fail("it has not ended")), { succeeded: undefined })
    assert.deepStrictEqual(yield* query.currentState, QueryState.known)
  }))

inMemory(
  "a failed purge is repeated by the next reset, and the query can be run again",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Completed")
      yield* timeline.run(Effect.exit(query.withReset(() => Effect.fail("no disk"))))
      assert.isTrue(yield* query.isResetFailed)
      yield* query.withReset(() => Effect.void)
      assert.deepStrictEqual(yield* query.enqueue, { state: QueryState.make("Queued"), changed: true })
    })
)

inMemory("a query that moved on after it was read is not purged", () =>
  Effect.gen(function*() {
    const { query, record: { version: ifVersion }, timeline } = yield* queryThatIs("Completed")
    yield* query.withReset(() => Effect.void, { ifVersion })
    for (const step of [query.enqueue, query.execute, query.finish]) yield* step
    const { exit } = yield* timeline.run(query.withReset(() => Effect.die("purged"), { ifVersion }))
    assert.strictEqual(Option.getOrThrow(Exit.findErrorOption(exit))._tag, "LeaseLost")
    assert.isTrue(yield* query.isCompleted)
  }))
