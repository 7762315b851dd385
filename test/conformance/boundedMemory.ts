/**
 * What every `RedisStore` remembers beside the state of a query: the last transitions, and how far its work has come.
 */
import { assert, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Latch, type Layer } from "effect"
import { type Progress, QueryKey, QueryRecord, QueryState, Reason, RedisStore } from "effect-query-state"
import { TestClock } from "effect/testing"
import { noListener } from "../support/Notifications.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import type { Time } from "./store.ts"

/** The history length that the layer of the suite must be configured with. */
export const length = 4

const lease = Duration.hours(1)
const shortLease = Duration.millis(25)

const halfDone: Progress.Progress = { done: 6, total: 12, note: "joining" }

const invalid: ReadonlyArray<readonly [what: string, progress: Progress.Progress]> = [
  ["negative", { done: -1 }],
  ["not a number", { done: Number.NaN }],
  ["without end", { done: Number.POSITIVE_INFINITY, total: 1 }]
]

const waitsFor: ReadonlyArray<QueryRecord.WaitsFor> = [
  { key: QueryKey.makeUnsafe({ db: "warehouse", query: "stock" }), version: 1_700_000_000_000_000 },
  { key: QueryKey.makeUnsafe({ db: "ware\n:house", query: "\"{a}\" \u0000 é 😀" }), version: 0 }
]

/** A total that cannot be right fails no work. */
const clamped: ReadonlyArray<readonly [total: number, recorded: Progress.Progress]> = [
  [Number.NaN, { done: 2 }],
  [Number.POSITIVE_INFINITY, { done: 2 }],
  [Number.NEGATIVE_INFINITY, { done: 2 }],
  [1, { done: 2, total: 2 }],
  [-1, { done: 2, total: 2 }]
]

/** Runs the suite against a store with a history of `length` transitions. `time` says what drives its leases. */
export const suite = (name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>, time: Time) => {
  const waitUntilLapsed = (key: QueryKey.QueryKey) =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const pass = time === "TestClock" ? TestClock.adjust("5 millis") : Effect.sleep("5 millis")
      return yield* Effect.repeat(Effect.andThen(pass, store.read(key)), {
        until: ({ state }) => QueryState.isDeterminate(state)
      })
    })

  it.layer(layer, { excludeTestServices: time === "real", timeout: "30 seconds" })(`RedisStore (${name})`, (it) => {
    it.effect("the history of a query has each transition with its details, oldest first", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        assert.deepStrictEqual(yield* store.history(key), [])
        const reason = Reason.requested({ by: "ada", note: "wrong year" })
        const queued = yield* store.compareAndSet(key, { event: "Queue" })
        const executing = yield* store.compareAndSet(key, { event: "Execute", holder: "worker 1", lease })
        const cancelled = yield* store.compareAndSet(key, { event: "Cancel", reason })
        const entryOf = ({ record }: RedisStore.CommandResult) => ({
          at: record.changedAt ?? assert.fail("a changed record has a time"),
          version: record.version
        })
        assert.deepStrictEqual(yield* store.history(key), [
          { ...entryOf(queued), event: "Queue", from: "Known", to: "Queued" },
          { ...entryOf(executing), event: "Execute", from: "Queued", to: "Executing", holder: "worker 1" },
          { ...entryOf(cancelled), event: "Cancel", from: "Executing", to: "Cancelled", holder: "worker 1", reason }
        ])
      }))

    it.effect("the history holds only the last transitions", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const versions: Array<number> = []
        for (const event of ["Queue", "Execute", "Finish", "Reset", "FinishReset", "Queue"] as const) {
          versions.push((yield* store.compareAndSet(key, { event })).record.version)
        }
        assert.deepStrictEqual((yield* store.history(key)).map(({ version }) => version), versions.slice(-length))
      }))

    it.effect("a command that changes nothing leaves no entry, and each query has its own history", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { record } = yield* store.compareAndSet(key, { event: "Queue", holder: "worker 1", lease })
        const before = yield* store.history(key)
        yield* store.compareAndSet(key, { event: "Finish" })
        yield* store.renew(key, record.version, lease)
        yield* Effect.flip(store.compareAndSet(key, { event: "Execute", fence: record.version - 1 }))
        yield* driveTo(yield* freshKey, "Completed")
        assert.deepStrictEqual(yield* store.history(key), before)
      }))

    it.effect("a lapse is in the history, whichever operation settled it", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* store.compareAndSet(key, { event: "Queue" })
        yield* store.compareAndSet(key, { event: "Execute", holder: "worker 1", lease: shortLease })
        const { changedAt = assert.fail(), version } = yield* waitUntilLapsed(key)
        assert.deepStrictEqual((yield* store.history(key)).at(-1), {
          at: changedAt,
          version,
          event: "Error",
          from: "Executing",
          to: "Errored",
          holder: "worker 1",
          reason: Reason.leaseExpired("worker 1")
        })
      }))

    it.effect("reading a history settles a lapsed lease", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* store.compareAndSet(key, { event: "Queue", lease: shortLease })
        const witness = yield* freshKey
        yield* store.compareAndSet(witness, { event: "Queue", lease: shortLease })
        yield* waitUntilLapsed(witness)
        assert.deepStrictEqual((yield* store.history(key)).map(({ to }) => to), ["Queued", "Cancelled"])
      }))

    it.effect("progress can be read, changes no state, and ends with the next transition", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const claimed = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
        const reported = yield* store.renew(key, claimed.version, lease, { progress: halfDone })
        assert.deepStrictEqual(reported, { ...claimed, state: reported.state, progress: halfDone })
        assert.deepStrictEqual(yield* store.read(key), reported)
        // A renewal without progress leaves the progress unchanged.
        assert.deepStrictEqual((yield* store.renew(key, claimed.version, lease)).progress, halfDone)
        const { record } = yield* store.compareAndSet(key, { event: "Finish", fence: claimed.version })
        assert.isFalse("progress" in record)
        assert.deepStrictEqual(yield* store.read(key), record)
      }))

    it.effect("progress is published in a record with the version unchanged", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version } = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
        const heard = yield* Latch.make()
        const records: Array<QueryRecord.QueryRecord> = []
        yield* store.changes(key, {
          onRecord: (record) => {
            records.push(record)
            heard.openUnsafe()
          },
          onGap: () => {}
        })
        yield* store.changes(key, { ...noListener })
        yield* store.renew(key, version, lease, { progress: halfDone })
        yield* heard.await
        const heardOf = [...records]
        assert.deepStrictEqual(heardOf, [yield* store.read(key)])
      }))

    it.effect("progress on a claim that is not held is refused", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const before = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
        const error = yield* Effect.flip(store.renew(key, before.version - 1, lease, { progress: halfDone }))
        assert.strictEqual(error._tag, "LeaseLost")
        assert.deepStrictEqual(yield* store.read(key), before)
      }))

    for (const [what, progress] of invalid) {
      it.effect(`progress that is ${what} is invalid and writes nothing`, () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* driveTo(key, "Executing", { lease })
          const error = errorFields(yield* Effect.flip(store.renew(key, before.version, lease, { progress })))
          assert.strictEqual(error["_tag"], "InvalidInput")
          assert.deepStrictEqual(yield* store.read(key), before)
        }))
    }

    it.effect("a total that is not finite is left out, and one below what is done becomes what is done", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version } = yield* driveTo(key, "Executing", { lease })
        for (const [total, recorded] of clamped) {
          yield* store.renew(key, version, lease, { progress: { done: 2, total } })
          assert.deepStrictEqual((yield* store.read(key)).progress, recorded, `${total}`)
        }
      }))

    it.effect("what a holder waits for stays until it reports otherwise, and ends with the next transition", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const claimed = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
        const { version: fence } = claimed
        const first = yield* store.renew(key, fence, lease, { waitsFor })
        assert.deepStrictEqual(first, { ...claimed, state: first.state, waitsFor })
        assert.deepStrictEqual(yield* store.read(key), first)
        // Neither a renewal alone nor progress changes it, and it leaves the progress as it is.
        for (const report of [undefined, {}, { waitsFor: undefined }, { progress: halfDone }] as const) {
          assert.deepStrictEqual((yield* store.renew(key, fence, lease, report)).waitsFor, waitsFor)
        }
        const [other = assert.fail()] = waitsFor
        const second = yield* store.renew(key, fence, lease, { waitsFor: [other] })
        assert.deepStrictEqual([second.waitsFor, second.progress], [[other], halfDone])
        assert.deepStrictEqual(yield* store.read(key), second)
        const none = yield* store.renew(key, fence, lease, { waitsFor: [] })
        assert.isFalse("waitsFor" in none)
        assert.deepStrictEqual(yield* store.read(key), none)
        const both = yield* store.renew(key, fence, lease, { waitsFor, progress: { done: 12, total: 12 } })
        assert.deepStrictEqual([both.waitsFor, both.progress], [waitsFor, { done: 12, total: 12 }])
        const { record } = yield* store.compareAndSet(key, { event: "Finish", fence })
        assert.isFalse("waitsFor" in record)
        assert.deepStrictEqual(yield* store.read(key), record)
      }))

    it.effect("what a holder waits for is not recorded under a lost claim, and is gone when its lease lapses", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const before = yield* driveTo(key, "Executing", { lease })
        yield* Effect.flip(store.renew(key, before.version - 1, lease, { waitsFor }))
        assert.deepStrictEqual(yield* store.read(key), before)
        const lapsing = yield* freshKey
        const { version } = yield* driveTo(lapsing, "Executing", { lease })
        yield* store.renew(lapsing, version, shortLease, { waitsFor })
        assert.isFalse("waitsFor" in (yield* waitUntilLapsed(lapsing)))
      }))

    it.effect("a notification of progress tells what the holder waits for, which itself is not published", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version } = yield* driveTo(key, "Executing", { holder: "worker\n1", lease })
        const heard: Array<QueryRecord.QueryRecord> = []
        yield* store.changes(key, { onRecord: (record) => heard.push(record), onGap: () => {} })
        yield* store.renew(key, version, lease, { waitsFor })
        const reported = yield* store.renew(key, version, lease, { progress: halfDone })
        yield* Effect.repeat(Effect.yieldNow, { until: () => heard.length > 0 })
        assert.deepStrictEqual([...heard], [reported])
        assert.deepStrictEqual(reported.waitsFor, waitsFor)
      }))

    it.effect("the span of a claim stays with the query until the next claim", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        yield* store.compareAndSet(key, { event: "Queue" })
        const { record: { version } } = yield* store.compareAndSet(key, { event: "Execute", traceparent, lease })
        assert.strictEqual((yield* store.read(key)).traceparent, traceparent)
        const finished = yield* store.compareAndSet(key, { event: "Finish", fence: version })
        assert.strictEqual(finished.record.traceparent, traceparent)
        const reset = yield* store.compareAndSet(key, { event: "Reset" })
        assert.deepStrictEqual(reset.record, {
          ...QueryRecord.absent(key),
          state: QueryState.make("Resetting"),
          version: reset.record.version,
          changedAt: reset.record.changedAt ?? DateTime.makeUnsafe(0)
        })
      }))

    it.effect("a span that is not in the format of W3C Trace Context is invalid", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const error = errorFields(yield* Effect.flip(store.compareAndSet(key, { event: "Queue", traceparent: "b3" })))
        assert.strictEqual(error["_tag"], "InvalidInput")
        assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
      }))
  })
}
