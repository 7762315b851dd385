import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Redacted, Result } from "effect"
import { type QueryEvent, type QueryKey, RedisStore, RedisStoreLive, Transition } from "effect-query-state"
import { inject } from "vitest"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"

type Store = RedisStore.RedisStore["Service"]

/** Stores that share one Redis, each with its own connection. */
class Stores extends Context.Service<Stores, ReadonlyArray<Store>>()("test/race/Stores") {
  static readonly layer = Layer.effect(
    Stores,
    Effect.all(
      Array.from(
        { length: 8 },
        () =>
          Layer.build(RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })).pipe(
            Effect.map(Context.get(RedisStore.RedisStore))
          )
      )
    )
  )
}

const racers = Array.from({ length: 64 }, (_, racer) => racer)
const rounds = Array.from({ length: 20 }, (_, round) => round)
const lease = Duration.hours(1)

/** All racers send their command at once, spread over the connections. */
const race = <A, E>(send: (store: Store, racer: number) => Effect.Effect<A, E>) =>
  Effect.flatMap(Stores, (stores) =>
    Effect.forEach(
      racers,
      (racer) => send(stores[racer % stores.length] ?? assert.fail("there is always a store"), racer),
      { concurrency: "unbounded" }
    ))

/** Checks that one answer is the winner's, and that all name the same record; answers with the winner and that record. */
const soleWinner = (answers: ReadonlyArray<RedisStore.CommandResult>) => {
  const winner = racers.find((racer) => answers[racer]?.changed) ?? assert.fail("nobody won")
  const record = answers[winner]?.record ?? assert.fail("the winner got an answer")
  assert.deepStrictEqual(answers, racers.map((racer) => ({ record, changed: racer === winner })))
  return { winner, record }
}

const throughFirst = <A, E>(self: Effect.Effect<A, E, RedisStore.RedisStore>) =>
  Effect.flatMap(
    Stores,
    ([store = assert.fail("there is always a store")]) => Effect.provideService(self, RedisStore.RedisStore, store)
  )

/** A fresh query a round, brought to where the race begins. */
const inRounds = <E, R>(run: (key: QueryKey.QueryKey) => Effect.Effect<unknown, E, R>) =>
  Effect.forEach(rounds, () => Effect.flatMap(freshKey, run), { discard: true })

it.layer(Stores.layer, { excludeTestServices: true, timeout: "30 seconds" })("RedisStoreLive", (it) => {
  it.effect.each(Transition.edges)(
    "one of 64 callers that race for $event on a query that is $from wins",
    ({ event, from, to }) =>
      inRounds((key) =>
        Effect.gen(function*() {
          yield* throughFirst(driveTo(key, from))
          const { record } = soleWinner(yield* race((store) => store.compareAndSet(key, { event })))
          assert.strictEqual(record.state._tag, to)
        })
      )
  )

  it.effect("one of many callers that finish, fail and cancel a run wins, and all get the same record", () =>
    inRounds((key) =>
      Effect.gen(function*() {
        yield* throughFirst(driveTo(key, "Executing"))
        const events = ["Finish", "Error", "Cancel"] as const satisfies ReadonlyArray<QueryEvent.QueryEvent>
        const eventOf = (racer: number) => events[racer % events.length] ?? "Finish"
        const { record, winner } = soleWinner(
          yield* race((store, racer) => store.compareAndSet(key, { event: eventOf(racer) }))
        )
        assert.strictEqual(record.state._tag, Transition.next("Executing", eventOf(winner)))
      })
    ))

  it.effect("the winner of 64 callers that race for a claim is its holder", () =>
    inRounds((key) =>
      Effect.gen(function*() {
        yield* throughFirst(driveTo(key, "Queued"))
        const { record, winner } = soleWinner(
          yield* race((store, racer) => store.compareAndSet(key, { event: "Execute", holder: `${racer}`, lease }))
        )
        assert.strictEqual("claim" in record.state && record.state.claim?.holder, `${winner}`)
      })
    ))

  it.effect("one of 64 callers with the same fence moves the query, and the others get LeaseLost", () =>
    inRounds((key) =>
      Effect.gen(function*() {
        const { version: fence } = yield* throughFirst(driveTo(key, "Executing", { lease }))
        const results = yield* race((store) => Effect.result(store.compareAndSet(key, { event: "Finish", fence })))
        const [won, ...more] = results.filter(Result.isSuccess)
        assert.deepStrictEqual(more, [])
        const record = won?.success.record ?? assert.fail("nobody won")
        assert.deepStrictEqual(
          results.filter(Result.isFailure).map(({ failure }) => errorFields(failure)),
          racers.slice(1).map(() => ({ _tag: "LeaseLost", fence, record }))
        )
      })
    ))
})
