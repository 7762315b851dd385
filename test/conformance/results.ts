/**
 * What the runs of a query leave behind in a `RedisStore`. The test file of each store calls `suite`, or `refusals` where no
 * results are kept.
 */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, type Layer } from "effect"
import { type QueryKey, QueryRecord, RedisStore } from "effect-query-state"
import { TestClock } from "effect/testing"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import type { Time } from "./store.ts"

const long = Duration.hours(1)

/** Short enough to wait for, in real time too. */
const short = Duration.millis(25)

const leave = (text: string) => ({ _tag: "Leave", text }) as const
const drop = { _tag: "Drop" } as const
const get = { _tag: "Get" } as const

/** Runs a query that may have been run before, and leaves a text. */
const runOnce = Effect.fnUntraced(function*(
  key: QueryKey.QueryKey,
  event: "Finish" | "Error",
  text: string,
  timeToLive?: Duration.Input
) {
  const store = yield* RedisStore.RedisStore
  const { state } = yield* store.read(key)
  const toKnown = state._tag === "Known" ? [] : ["Reset", "FinishReset"] as const
  const [first, ...rest] = [...toKnown, "Queue", "Execute"] as const
  const { changed, record: { version: fence } } = yield* store.compareAndSet(key, {
    event: [first, ...rest],
    lease: long,
    label: "a label"
  })
  assert.isTrue(changed)
  return yield* store.compareAndSet(key, { event, fence, timeToLive, result: leave(text) })
})

const invalid: ReadonlyArray<readonly [what: string, command: { readonly event: unknown; readonly result: unknown }]> =
  [
    ["that is nothing known", { event: "Finish", result: { _tag: "Keep" } }],
    ["that is a text", { event: "Finish", result: "Get" }],
    ["that is null", { event: "Finish", result: null }],
    ["without a text", { event: "Finish", result: { _tag: "Leave" } }],
    ["with bytes for a text", { event: "Finish", result: { _tag: "Leave", text: new Uint8Array(1) } }],
    ["with a lone surrogate", { event: "Finish", result: leave("\ud800") }],
    ["of a run that does not end", { event: "Execute", result: leave("text") }],
    ["of a run that is cancelled", { event: "Cancel", result: leave("text") }],
    ["of a path that goes on", { event: ["Finish", "Reset"], result: leave("text") }]
  ]

/** Runs the suite against a store whose time is driven by `time`. */
export const suite = (name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>, time: Time) => {
  const pass = time === "TestClock" ? TestClock.adjust("5 millis") : Effect.sleep("5 millis")

  const outlast = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
    const store = yield* RedisStore.RedisStore
    yield* Effect.repeat(Effect.andThen(pass, store.read(key)), { until: ({ version }) => version === 0 })
  })

  return it.layer(layer, { excludeTestServices: time === "real", timeout: "30 seconds" })(
    `the results of a RedisStore (${name})`,
    (it) => {
      it.effect("a query that was never run has none", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          assert.isTrue(store.hasResults)
          assert.deepStrictEqual(yield* store.results(yield* freshKey), {})
        }))

      it.effect.each([["Finish", "success"], ["Error", "failure"]] as const)(
        "%s leaves a %s, at the version of its record",
        ([event, kind]) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            for (const text of ["", `{"rows":7}\n\0é😀`, "x".repeat(100_000)]) {
              const key = yield* freshKey
              const { changed, record } = yield* runOnce(key, event, text)
              assert.isTrue(changed)
              assert.deepStrictEqual(yield* store.results(key), { [kind]: { version: record.version, text } })
              assert.deepStrictEqual(yield* store.read(key), record)
            }
          })
      )

      it.effect("a failure leaves the last success, and replaces the failure before; a success removes the failure", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { record: { version } } = yield* runOnce(key, "Finish", "one")
          const success = { version, text: "one" }
          for (const text of ["down", "still down"]) {
            const { record } = yield* runOnce(key, "Error", text)
            assert.deepStrictEqual(yield* store.results(key), { success, failure: { version: record.version, text } })
          }
          const { record } = yield* runOnce(key, "Finish", "two")
          assert.deepStrictEqual(yield* store.results(key), { success: { version: record.version, text: "two" } })
        }))

      it.effect("they survive a reset, the next claim, and a run that leaves nothing", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* runOnce(key, "Finish", "one")
          yield* runOnce(key, "Error", "down")
          const results = yield* store.results(key)
          for (const event of ["Reset", "FinishReset", "Queue", "Execute", "Finish"] as const) {
            assert.isTrue((yield* store.compareAndSet(key, { event })).changed)
            assert.deepStrictEqual(yield* store.results(key), results)
          }
        }))

      it.effect("Drop deletes them, also of a query that is Known, and not with a command that is refused", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const path = ["Reset", "FinishReset"] as const
          yield* runOnce(key, "Finish", "one")
          const results = yield* store.results(key)
          assert.isFalse((yield* store.compareAndSet(key, { event: "Queue", result: drop })).changed)
          yield* Effect.flip(store.compareAndSet(key, { event: path, fence: 1, result: drop }))
          assert.deepStrictEqual(yield* store.results(key), results)
          assert.isTrue((yield* store.compareAndSet(key, { event: path, result: drop })).changed)
          assert.deepStrictEqual(yield* store.results(key), {})

          yield* runOnce(key, "Finish", "two")
          const { record } = yield* store.compareAndSet(key, { event: path })
          yield* Effect.flip(store.compareAndSet(key, { event: path, fence: 1, result: drop }))
          assert.strictEqual((yield* store.results(key)).success?.text, "two")
          assert.deepStrictEqual(yield* store.compareAndSet(key, { event: path, result: drop }), {
            record,
            changed: false
          })
          assert.deepStrictEqual(yield* store.results(key), {})
          // There is nothing to drop.
          const absent = yield* freshKey
          assert.deepStrictEqual(yield* store.compareAndSet(absent, { event: path, result: drop }), {
            record: QueryRecord.absent(absent),
            changed: false
          })
        }))

      it.effect("Get answers with them where the command is refused, and only there", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const begin = { event: ["Queue", "Execute"], lease: long, result: get } as const
          const begun = yield* store.compareAndSet(key, begin)
          assert.deepStrictEqual(begun, { record: begun.record, changed: true })
          assert.deepStrictEqual(yield* store.compareAndSet(key, begin), {
            record: begun.record,
            changed: false,
            results: {}
          })
          const { record } = yield* store.compareAndSet(key, {
            event: "Finish",
            fence: begun.record.version,
            result: leave("one")
          })
          const results = { success: { version: record.version, text: "one" } }
          assert.deepStrictEqual(yield* store.compareAndSet(key, begin), { record, changed: false, results })
          assert.deepStrictEqual(yield* store.compareAndSet(key, { ...begin, result: undefined }), {
            record,
            changed: false
          })
          const lost = yield* Effect.flip(store.compareAndSet(key, { ...begin, fence: 1 }))
          assert.deepStrictEqual(errorFields(lost), { _tag: "LeaseLost", fence: 1, record })
        }))

      it.effect("one that is given a time to live is gone when its record is", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          for (const event of ["Finish", "Error"] as const) {
            const key = yield* freshKey
            yield* runOnce(key, event, "short", short)
            yield* outlast(key)
            assert.deepStrictEqual(yield* store.results(key), {})
          }
        }))

      it.effect("a later success without a time to live stays", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* runOnce(key, "Finish", "one", short)
          const { record } = yield* runOnce(key, "Finish", "two")
          // Given its time to live later, and for as long.
          const witness = yield* freshKey
          yield* runOnce(witness, "Finish", "short", short)
          yield* outlast(witness)
          assert.deepStrictEqual(yield* store.results(key), { success: { version: record.version, text: "two" } })
        }))

      it.effect("a failure stays as long as its record, however short the success before it was to be kept", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          for (const timeToLive of [undefined, long]) {
            // Once before the success has expired, and once after.
            for (const isExpired of [false, true]) {
              const key = yield* freshKey
              yield* runOnce(key, "Finish", "one", short)
              if (isExpired) yield* outlast(key)
              const { record } = yield* runOnce(key, "Error", "down", timeToLive)
              const witness = yield* freshKey
              yield* runOnce(witness, "Finish", "short", short)
              yield* outlast(witness)
              const { failure } = yield* store.results(key)
              assert.deepStrictEqual(failure, { version: record.version, text: "down" })
            }
          }
        }))

      it.effect("a failure does not shorten how long the last success is kept", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          for (const timeToLive of [undefined, long]) {
            const key = yield* freshKey
            const { record } = yield* runOnce(key, "Finish", "one", timeToLive)
            yield* runOnce(key, "Error", "down", short)
            yield* outlast(key)
            const { success } = yield* store.results(key)
            assert.deepStrictEqual(success, { version: record.version, text: "one" })
          }
        }))

      it.effect("a command that is sent again leaves once", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { record: { version: fence } } = yield* store.compareAndSet(key, { event: ["Queue", "Execute"] })
          const finish = { event: "Finish", fence, operation: fence, timeToLive: long, result: leave("one") } as const
          const first = yield* store.compareAndSet(key, finish)
          yield* pass
          assert.deepStrictEqual(yield* store.compareAndSet(key, finish), first)
          assert.deepStrictEqual(yield* store.results(key), { success: { version: first.record.version, text: "one" } })
          // Once the query was moved on, it is too late.
          yield* store.compareAndSet(key, { event: ["Reset", "FinishReset"], result: drop })
          yield* Effect.flip(store.compareAndSet(key, finish))
          assert.deepStrictEqual(yield* store.results(key), {})
        }))

      it.effect("a holder whose claim is lost leaves nothing, nor does a command that is refused", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { record: { version: fence } } = yield* store.compareAndSet(key, { event: ["Queue", "Execute"] })
          yield* store.compareAndSet(key, { event: "Cancel" })
          yield* runOnce(key, "Finish", "of the next run")
          const results = yield* store.results(key)
          for (const event of ["Finish", "Error"] as const) {
            yield* Effect.flip(store.compareAndSet(key, { event, fence, result: leave("late") }))
            assert.isFalse((yield* store.compareAndSet(key, { event, result: leave("late") })).changed)
            assert.deepStrictEqual(yield* store.results(key), results)
          }
        }))

      it.effect("a command that only settles a lapsed lease leaves and drops nothing", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const executeShortly = Effect.gen(function*() {
            const key = yield* freshKey
            const { record: { version } } = yield* runOnce(key, "Finish", "one")
            yield* store.compareAndSet(key, { event: ["Reset", "FinishReset", "Queue", "Execute"], lease: short })
            const witness = yield* freshKey
            yield* runOnce(witness, "Finish", "short", short)
            yield* outlast(witness)
            return [key, { success: { version, text: "one" } }] as const
          })
          for (
            const command of [
              { event: "Finish", result: leave("late") },
              { event: "Error", result: leave("late") },
              { event: "Queue", result: drop }
            ] as const
          ) {
            const [key, results] = yield* executeShortly
            const { changed, record } = yield* store.compareAndSet(key, command)
            assert.deepStrictEqual([changed, record.state._tag], [false, "Errored"])
            assert.deepStrictEqual(yield* store.results(key), results)
          }
        }))

      it.effect.each(invalid)("an action %s is invalid and writes nothing", ([, command]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* driveTo(key, command.event === "Execute" ? "Queued" : "Executing")
          const error = yield* Effect.flip(store.compareAndSet(key, command as RedisStore.UnfencedCommand))
          assert.strictEqual(errorFields(error)["_tag"], "InvalidInput")
          assert.deepStrictEqual(yield* store.read(key), before)
          assert.deepStrictEqual(yield* store.results(key), {})
        }))

      it.effect("the results of no query are invalid", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const error = yield* Effect.flip(store.results({ db: "", query: "stock" } as QueryKey.QueryKey))
          assert.strictEqual(errorFields(error)["_tag"], "InvalidInput")
        }))
    }
  )
}

/** Runs the tests of a store that keeps no results. */
export const refusals = (name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>) =>
  it.layer(layer, { excludeTestServices: true, timeout: "30 seconds" })(
    `the results of a RedisStore (${name})`,
    (it) => {
      it.effect("a command that has to do with results is invalid and writes nothing, and there are none to read", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          assert.isFalse(store.hasResults)
          const key = yield* freshKey
          const before = yield* driveTo(key, "Executing")
          for (const result of [leave("text"), drop, get]) {
            assert.deepStrictEqual(
              errorFields(yield* Effect.flip(store.compareAndSet(key, { event: "Finish", result }))),
              {
                _tag: "InvalidInput",
                operation: "Finish",
                key
              }
            )
          }
          assert.strictEqual(errorFields(yield* Effect.flip(store.results(key)))["_tag"], "InvalidInput")
          assert.deepStrictEqual(yield* store.read(key), before)
        }))
    }
  )
