/**
 * How records of a `RedisStore` expire. The test file of each store calls `suite`, or `refusals` where records cannot expire.
 */
import { assert, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Fiber, type Layer, Stream } from "effect"
import {
  QueryFleet,
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  RedisStore,
  type RedisStoreLive,
  Transition
} from "effect-query-state"
import { TestClock } from "effect/testing"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import type { Time } from "./store.ts"

/** The options that the layer of the suite must be configured with. */
export const options = {
  keep: { completed: "2 hours", failed: "3 hours" },
  history: { length: 10 }
} as const satisfies RedisStoreLive.StoreOptions

/** Of a state that a query rests in; `undefined` for ever. */
const keptFor: { readonly [S in QueryState.Tag]?: Duration.Duration } = {
  Completed: Duration.fromInputUnsafe(options.keep.completed),
  Errored: Duration.fromInputUnsafe(options.keep.failed)
}

/** Longer than any test takes. */
const long = Duration.hours(1)

/** Short enough to wait for, in real time too. */
const short = Duration.millis(25)

const outcomes = Transition.edges.filter(({ event }) => event === "Finish" || event === "Error" || event === "Cancel")

const after = ({ changedAt }: QueryRecord.QueryRecord, duration: Duration.Duration | undefined) =>
  duration === undefined
    ? undefined
    : DateTime.addDuration(changedAt ?? assert.fail("a changed record has a time"), duration)

const refused: ReadonlyArray<readonly [what: string, command: RedisStore.UnfencedCommand]> = [
  ["zero", { event: "Finish", timeToLive: 0 }],
  ["negative", { event: "Finish", timeToLive: -1 }],
  ["infinite", { event: "Finish", timeToLive: Duration.infinity }],
  ["an infinite number", { event: "Finish", timeToLive: Number.POSITIVE_INFINITY }],
  ["not a number", { event: "Finish", timeToLive: Number.NaN }],
  ["longer than dates reach", { event: "Finish", timeToLive: Number.MAX_SAFE_INTEGER }],
  ["on an event that leads to a pending state", { event: "Execute", timeToLive: long }],
  ["on a path that ends in a pending state", { event: ["Finish", "Reset"], timeToLive: long }],
  ["on an event that leads to Known", { event: "FinishReset", timeToLive: long }],
  ["on a path that ends in Known", { event: ["Finish", "Reset", "FinishReset"], timeToLive: long }]
]

/** Runs the suite against a store whose time is driven by `time`, and which has the `options` above. */
export const suite = (name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>, time: Time) => {
  const pass = time === "TestClock" ? TestClock.adjust("5 millis") : Effect.sleep("5 millis")

  const outlast = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
    const store = yield* RedisStore.RedisStore
    return yield* Effect.repeat(Effect.andThen(pass, store.read(key)), { until: ({ version }) => version === 0 })
  })

  /** Lets time pass until all that was given `short` so far is over: a later one is the witness. */
  const outlastAll = Effect.gen(function*() {
    const key = yield* freshKey
    const witness = yield* driveTo(key, "Completed", { timeToLive: short })
    assert.isDefined(witness.keptUntil)
    yield* outlast(key)
  })

  return it.layer(layer, { excludeTestServices: time === "real", timeout: "30 seconds" })(
    `the time to live in a RedisStore (${name})`,
    (it) => {
      it.effect.each(outcomes)(
        "a query that is $to by $event in $from is Known once its time to live is over",
        (edge) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            assert.isTrue(store.hasTimeToLive)
            const key = yield* freshKey
            const before = yield* driveTo(key, edge.from, { lease: long })
            const { changed, record } = yield* store.compareAndSet(key, {
              event: edge.event,
              fence: before.version,
              timeToLive: short
            })
            assert.isTrue(changed)
            assert.deepStrictEqual(record, {
              key,
              state: QueryState.make(edge.to),
              version: record.version,
              attempts: record.attempts,
              changedAt: record.changedAt ?? assert.fail(),
              keptUntil: after(record, short) ?? assert.fail()
            })
            assert.deepStrictEqual(yield* outlast(key), QueryRecord.absent(key))
            assert.deepStrictEqual(
              yield* store.readMany([key]),
              yield* Effect.map(Effect.result(store.read(key)), (read) => [read])
            )

            // No fence from before fits, neither now nor once the query has a record again.
            const fences = [before.version, record.version]
            const areLost = Effect.gen(function*() {
              const record = yield* store.read(key)
              for (const fence of fences) {
                const lost = { _tag: "LeaseLost", fence, record }
                const errors = [
                  yield* Effect.flip(store.renew(key, fence, long)),
                  yield* Effect.flip(store.compareAndSet(key, { event: "Queue", fence })),
                  yield* Effect.flip(store.compareAndSet(key, { event: "Cancel", fence }))
                ]
                assert.deepStrictEqual(errors.map(errorFields), [lost, lost, lost])
              }
              assert.deepStrictEqual(yield* store.read(key), record)
            })
            yield* areLost
            const again = yield* store.compareAndSet(key, { event: ["Queue", "Execute"], ifVersion: 0, lease: long })
            assert.deepStrictEqual([again.changed, again.record.attempts, again.record.keptUntil], [true, 1, undefined])
            assert.isAbove(again.record.version, record.version)
            yield* areLost
          })
      )

      it.effect("a path that ends with an outcome takes a time to live", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { record } = yield* store.compareAndSet(key, {
            event: ["Queue", "Execute", "Error", "Reset", "FinishReset", "Queue", "Execute", "Finish"],
            timeToLive: short
          })
          assert.deepStrictEqual(record.keptUntil, after(record, short))
          assert.deepStrictEqual(yield* outlast(key), QueryRecord.absent(key))
        }))

      it.effect("a query that is moved in time stays as long as others, and has no expiry", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          // In real time, a query can expire before it is moved.
          const moveInTime = Effect.gen(function*() {
            const key = yield* freshKey
            yield* driveTo(key, "Completed", { timeToLive: short })
            return yield* store.compareAndSet(key, { event: "Reset", holder: "worker 1" })
          })
          const { record } = yield* Effect.repeat(moveInTime, { until: ({ changed }) => changed })
          assert.isFalse("keptUntil" in record)
          yield* outlastAll
          assert.deepStrictEqual(yield* store.read(record.key), record)
          const { version } = record
          const renewed = yield* store.renew(record.key, version, long)
          yield* outlastAll
          assert.deepStrictEqual(yield* store.read(record.key), renewed)
        }))

      it.effect("reads and refused commands leave the expiry as it is", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const record = yield* driveTo(key, "Completed", { timeToLive: long })
          yield* pass
          for (const event of ["Queue", "Finish"] as const) {
            const answer = yield* store.compareAndSet(key, {
              event,
              ...(event === "Finish" ? { timeToLive: short } : undefined)
            })
            assert.deepStrictEqual(answer, { record, changed: false })
          }
          assert.deepStrictEqual(yield* store.read(key), record)
        }))

      it.effect("a command that is sent again gives the expiry that it gave first", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { version: fence } = yield* driveTo(key, "Executing", { lease: long })
          const finish = { event: "Finish", fence, operation: fence, timeToLive: long } as const
          const first = yield* store.compareAndSet(key, finish)
          yield* pass
          assert.deepStrictEqual(yield* store.compareAndSet(key, finish), first)
          assert.deepStrictEqual(yield* store.read(key), first.record)
        }))

      it.effect.each(QueryState.tags.map((tag) => ({ tag })))(
        "keep says how long a query that is $tag stays, unless the command says it",
        ({ tag }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const record = yield* driveTo(key, tag)
            assert.deepStrictEqual(record.keptUntil, record.version === 0 ? undefined : after(record, keptFor[tag]))
            assert.deepStrictEqual(yield* store.read(key), record)
            if (!outcomes.some(({ to }) => to === tag)) return
            const own = yield* driveTo(yield* freshKey, tag, { timeToLive: long })
            assert.deepStrictEqual(own.keptUntil, after(own, long))
          })
      )

      it.effect("keep says how long a query stays that was reset, and then nothing", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { record } = yield* store.compareAndSet(key, {
            event: ["Queue", "Execute", "Finish", "Reset", "FinishReset"]
          })
          assert.isFalse("keptUntil" in record)
        }))

      it.effect.each(
        (["Queued", "Executing", "Resetting"] as const).map((from) => ({
          from,
          to: Transition.next(from, Transition.lapseEvents[from]) ?? from
        }))
      )(
        "keep says how long a query stays that is $to because its lease lapsed in $from",
        ({ from, to }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            yield* driveTo(key, from, { lease: short })
            const lapsed = yield* Effect.repeat(Effect.andThen(pass, store.read(key)), {
              until: ({ state }) => QueryState.isDeterminate(state)
            })
            assert.strictEqual(lapsed.state._tag, to)
            assert.deepStrictEqual(lapsed.keptUntil, after(lapsed, keptFor[to]))
            // What a lapse left behind is moved on without an expiry.
            const { record } = yield* store.compareAndSet(key, { event: "Reset" })
            assert.isFalse("keptUntil" in record)
          })
      )

      it.effect("a query that has expired is in no list, and its history stays", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const fleet = yield* QueryFleet.make
          const key = yield* freshKey
          const stays = yield* driveTo(yield* freshKey, "Completed", { timeToLive: long })
          const { version } = yield* driveTo(key, "Completed", { timeToLive: short })
          yield* outlast(key)
          const keys = yield* Stream.runCollect(store.keys(key.db))
          const listed = yield* Stream.runCollect(fleet.list(key.db))
          for (const found of [keys, listed.map(({ key }) => key)]) {
            assert.includeDeepMembers([...found], [stays.key])
            assert.notDeepInclude(found, key)
          }
          const { Known } = yield* fleet.summary([key])
          assert.strictEqual(Known, 1)
          const history = yield* store.history(key)
          assert.deepStrictEqual(history.map(({ to }) => to), ["Queued", "Executing", "Completed"])
          assert.strictEqual(history.at(-1)?.version, version)
          // The next life is from Known.
          yield* store.compareAndSet(key, { event: "Queue" })
          assert.deepInclude((yield* store.history(key)).at(-1), { from: "Known", to: "Queued" })
        }))

      it.effect("the stream of changes shows that a query has expired, without a notification", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const query = yield* QueryStateMachine.make(key)
          const shown: Array<QueryRecord.QueryRecord> = []
          const changes = yield* Effect.forkChild(
            query.changes.pipe(
              Stream.tap((record) => Effect.sync(() => shown.push(record))),
              Stream.takeUntil(({ version }) => version === 0 && shown.length > 1),
              Stream.runDrain
            ),
            { startImmediately: true }
          )
          yield* Effect.repeat(Effect.yieldNow, { until: () => shown.length > 0 })
          const { record } = yield* store.compareAndSet(key, {
            event: ["Queue", "Execute", "Finish"],
            timeToLive: short
          })
          yield* Effect.repeat(pass, { until: () => changes.pollUnsafe() !== undefined })
          yield* Fiber.join(changes)
          assert.deepStrictEqual(shown, [QueryRecord.absent(key), record, QueryRecord.absent(key)])
        }))

      it.effect("a notification tells until when a record is kept", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const heard: Array<QueryRecord.QueryRecord> = []
          yield* store.changes(key, { onRecord: (record) => heard.push(record), onGap: () => {} })
          const { record } = yield* store.compareAndSet(key, {
            event: ["Queue", "Execute", "Finish"],
            timeToLive: long
          })
          yield* Effect.repeat(Effect.yieldNow, { until: () => heard.length > 0 })
          assert.deepStrictEqual(heard, [record])
        }))

      it.effect.each(refused)(
        "a time to live that is %s is invalid and writes nothing",
        ([, command]) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const event = Transition.eventsOf(command.event)[0]
            const before = yield* driveTo(key, Transition.sources(event)[0] ?? "Known")
            const error = errorFields(yield* Effect.flip(store.compareAndSet(key, command)))
            assert.strictEqual(error["_tag"], "InvalidInput")
            assert.deepStrictEqual(yield* store.read(key), before)
          })
      )
    }
  )
}

/** Runs the tests of a store whose records cannot expire. */
export const refusals = (name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>) =>
  it.layer(layer, { excludeTestServices: true, timeout: "30 seconds" })(
    `the time to live in a RedisStore (${name})`,
    (it) => {
      it.effect("a command with a time to live is invalid and writes nothing", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          assert.isFalse(store.hasTimeToLive)
          const key = yield* freshKey
          const before = yield* driveTo(key, "Executing", { lease: long })
          const finish = { event: "Finish", fence: before.version, timeToLive: long } as const
          assert.deepStrictEqual(errorFields(yield* Effect.flip(store.compareAndSet(key, finish))), {
            _tag: "InvalidInput",
            operation: "Finish",
            key
          })
          assert.deepStrictEqual(yield* store.read(key), before)
          const { record } = yield* store.compareAndSet(key, { ...finish, timeToLive: undefined })
          assert.isFalse("keptUntil" in record)
        }))
    }
  )
