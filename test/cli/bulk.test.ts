/** Bulk operations, in virtual time. */
import { assert } from "@effect/vitest"
import { Console, Effect, Fiber } from "effect"
import {
  QueryFleet,
  QueryKey,
  type QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreFaults
} from "effect-query-state"
import { TestClock } from "effect/testing"
import * as Bulk from "../../src/cli/bulk.ts"
import * as Exit from "../../src/cli/exit.ts"
import { inMemory } from "../support/inMemory.ts"
import { driveTo } from "../support/queries.ts"

const db = QueryKey.DbId.make("warehouse")

/** Queries selected in one state, and a store whose every command takes a tenth of a second. */
const many = Effect.fnUntraced(function*(count: number, tag: QueryState.Tag) {
  const targets: Array<Bulk.Target> = []
  for (let index = 0; index < count; index++) {
    const key = QueryKey.makeUnsafe({ db, query: `${index}` })
    targets.push({ key, fence: (yield* driveTo(key, tag)).version })
  }
  const { inject } = yield* RedisStoreFaults.RedisStoreFaults
  yield* inject(({ operation }) =>
    operation === "compareAndSet" ? { _tag: "Delay", duration: "100 millis" } : undefined
  )
  return targets
})

/** Starts an operation, and collects what it prints. */
const start = Effect.fnUntraced(function*(operation: Bulk.Operation, targets: ReadonlyArray<Bulk.Target>) {
  const printed: Array<string> = []
  const refused: Array<string> = []
  const fiber = yield* Bulk.run(operation, targets, false).pipe(
    Effect.provideService(Console.Console, {
      ...globalThis.console,
      log: (line) => printed.push(String(line)),
      error: (line) => refused.push(String(line))
    }),
    Effect.forkChild({ startImmediately: true })
  )
  return { fiber, printed, refused }
})

const summary = (targets: ReadonlyArray<Bulk.Target>) =>
  Effect.flatMap(QueryFleet.make, (fleet) => fleet.summary(targets.map(({ key }) => key)))

inMemory("resets succeed though all together take longer than one lease", () =>
  Effect.gen(function*() {
    const targets = yield* many(400, "Completed")
    const { fiber, refused, printed } = yield* start(Bulk.reset, targets)
    yield* TestClock.adjust("10 minutes")
    yield* Fiber.join(fiber)
    assert.deepStrictEqual([printed.length, refused], [targets.length, []])
  }))

inMemory("an interrupted batch has reported everything that it did", () =>
  Effect.gen(function*() {
    const targets = yield* many(400, "Queued")
    const { fiber, printed } = yield* start(Bulk.cancel(Reason.requested()), targets)
    yield* TestClock.adjust("15 seconds")
    yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
    yield* TestClock.adjust("10 minutes")
    assert.isDefined(fiber.pollUnsafe())
    const { Cancelled, Queued } = yield* summary(targets)
    assert.isTrue(Cancelled > 0 && Queued > 0)
    assert.lengthOf(printed, Cancelled)
  }))

inMemory("a query whose state changed after it was selected is left alone", () =>
  Effect.gen(function*() {
    const targets = yield* many(2, "Errored")
    const [other] = targets
    if (other === undefined) return assert.fail("there is none")
    const query = yield* QueryStateMachine.make(other.key)
    // Another process runs it again before this one reaches it.
    yield* Effect.forkChild(
      Effect.all([query.reset, query.finishResetting, query.enqueue, query.execute, query.finish])
    )
    yield* TestClock.adjust("1 second")
    const { fiber, refused, printed } = yield* start(Bulk.reset, targets)
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(yield* Effect.flip(Fiber.join(fiber)), Exit.refused)
    assert.deepStrictEqual(printed, ["Reset warehouse/1"])
    assert.deepStrictEqual(refused, [
      "Reset is refused, because the query has moved on meanwhile: query warehouse/0 is ready"
    ])
    const store = yield* RedisStore.RedisStore
    assert.strictEqual((yield* store.read(other.key)).state._tag, "Completed")
  }))
