import { assert, it } from "@effect/vitest"
import { DateTime, Effect, Fiber, Redacted, Result, Schedule, Stream } from "effect"
import {
  QueryEvent,
  QueryFleet,
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  type RedisStoreError,
  RedisStoreLive
} from "effect-query-state"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import { driveTo, errorFields, freshKey, redisKeyOf } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })

type Fields = Readonly<Record<string, string>>

const withAdmin = <A>(f: (admin: Redis) => Promise<A>) =>
  Effect.scoped(Effect.flatMap(RedisAdmin.connect(inject("redisUrl")), (admin) => Effect.promise(() => f(admin))))

const put = (key: QueryKey.QueryKey, fields: Fields) =>
  withAdmin(async (admin) => {
    // A read in between would find a Known query.
    await admin.multi().del(redisKeyOf(key)).hset(redisKeyOf(key), fields).exec()
  })

/** All that Redis stores of a query. */
const stored = (key: QueryKey.QueryKey) => withAdmin((admin) => admin.hgetall(redisKeyOf(key)))

const v = "1700000000000000"
const version = Number(v)
const changedAt = DateTime.makeUnsafe(version / 1000)
const farOff = 4_900_000_000_000

const unknown: ReadonlyArray<readonly [raw: string, fields: Fields]> = ["paused", "Queued", "", "__proto__", "known "]
  .map((s) => [s, { s, v }])

const broken: ReadonlyArray<readonly [what: string, field: string, fields: Fields]> = [
  ["a state without a version", "v", { s: "queued" }],
  ["a version without a state", "s", { v }],
  ...["", "abc", "-5", "1.5", "1e3", "0x10", "inf", "nan", " 5", "9007199254740992"].map((
    v
  ): [string, string, Fields] => [
    `the version '${v}'`,
    "v",
    { s: "executing", v, h: "worker 1", x: `${farOff}` }
  ]),
  ...["", "soon", "-5", "1.5", "inf", "nan", "9000000000000000"].map((x): [string, string, Fields] => [
    `a lease until '${x}'`,
    "x",
    { s: "executing", v, h: "worker 1", x }
  ]),
  ...["", "yesterday", "-1", "1.5", "9000000000000000"].map((t): [string, string, Fields] => [
    `a change at '${t}'`,
    "t",
    { s: "queued", v, t }
  ]),
  ...["", "many", "-1", "1.5", "9000000000000000"].map((a): [string, string, Fields] => [
    `the attempts '${a}'`,
    "a",
    { s: "executing", v, h: "worker 1", x: `${farOff}`, a }
  ]),
  ...["", "soon", "-1", "1.5", "inf", "9000000000000000"].map((e): [string, string, Fields] => [
    `an expiry at '${e}'`,
    "e",
    { s: "completed", v, e }
  ]),
  ["an expiry although it is pending", "e", { s: "executing", v, e: `${farOff}` }]
]

/** Reasons that a newer version of this library wrote, or another program. */
const unreadableReasons: ReadonlyArray<readonly [what: string, r: string]> = [
  ...["", "oops", "null", "[]", "{}", `{"_tag":"Moonlight"}`, `{"_tag":"Failed","error":"SqlError"}`].map((
    r
  ): [string, string] => [`'${r}'`, r]),
  ["a longer text", JSON.stringify({ _tag: "Requested", note: "n".repeat(10_000) })]
]

type Told = ReturnType<typeof errorFields>

/** Every operation on one query; those that change it present the fence of the claim that may be on it, or none. */
const operations: ReadonlyArray<
  readonly [
    operation: string,
    run: (store: RedisStore.RedisStore["Service"], key: QueryKey.QueryKey) => Effect.Effect<unknown, Told>
  ]
> = [
  ["read", (store, key) => Effect.mapError(store.read(key), errorFields)],
  ["renew the lease on", (store, key) => Effect.mapError(store.renew(key, version, "1 minute"), errorFields)],
  ...QueryEvent.all.flatMap((event) =>
    [undefined, version].map((fence): (typeof operations)[number] => [
      event,
      (store, key) => Effect.mapError(store.compareAndSet(key, { event, fence }), errorFields)
    ])
  )
]

it.layer(StoreLayer, { excludeTestServices: true, timeout: "30 seconds" })(
  "A record that another program wrote",
  (it) => {
    it.effect.each(unknown)(
      "in the state '%s' gives UnknownState to every operation and is unchanged",
      ([raw, fields]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* put(key, fields)
          for (const [operation, run] of operations) {
            assert.deepStrictEqual(yield* Effect.flip(run(store, key)), { _tag: "UnknownState", operation, key })
          }
          const { message, reason } = yield* Effect.flip(store.read(key))
          assert.deepStrictEqual(reason._tag === "UnknownState" && reason.raw, raw)
          assert.include(
            message,
            `query ${key.db}/${key.query}: the record in the Redis key ${
              redisKeyOf(key)
            } is in the unknown state "${raw}"`
          )
          assert.deepStrictEqual(yield* stored(key), fields)
        })
    )

    it.effect.each(broken)(
      "with %s cannot be read, and failed operations do not change it",
      ([, field, fields]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* put(key, fields)
          const { message, reason } = yield* Effect.flip(store.read(key))
          assert.strictEqual(reason._tag, "InvalidRecord")
          assert.include(
            message,
            `query ${key.db}/${key.query}: the record in the Redis key ${redisKeyOf(key)} cannot be read`
          )
          assert.include(message, `["${field}"]`)
          assert.deepStrictEqual((yield* Effect.flip(store.history(key))).reason, reason)
          for (const [operation, run] of operations) {
            yield* put(key, fields)
            const result = yield* Effect.result(run(store, key))
            // What replaces the broken field repairs the record.
            if (Result.isSuccess(result)) {
              assert.deepStrictEqual(Result.isSuccess(yield* Effect.result(store.read(key))), true, operation)
            } else {
              assert.deepStrictEqual(result.failure, { _tag: "InvalidRecord", operation, key })
              assert.deepStrictEqual(yield* stored(key), fields, operation)
            }
          }
        })
    )

    it.effect.each(unreadableReasons)(
      "with the reason %s reads as Unrecorded, and the rest of the record is there",
      ([, r]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const fields = { s: "errored", v, r, c: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }
          yield* put(key, fields)
          const record = {
            key,
            state: QueryState.make("Errored", { reason: Reason.unrecorded }),
            version,
            attempts: 0,
            changedAt,
            traceparent: fields.c
          }
          assert.deepStrictEqual(yield* store.read(key), record)
          const finish = yield* store.compareAndSet(key, { event: "Finish" })
          assert.deepStrictEqual(finish, { record, changed: false })
          assert.deepStrictEqual(yield* stored(key), fields)

          const reset = yield* store.compareAndSet(key, { event: "Reset" })
          assert.deepStrictEqual([reset.changed, reset.record.state._tag], [true, "Resetting"])
        })
    )

    it.effect.each(["string", "list", "set", "zset", "stream"])(
      "as a %s gives WrongType to every operation and is unchanged",
      (type) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const redisKey = redisKeyOf(key)
          yield* withAdmin((admin): Promise<unknown> => {
            switch (type) {
              case "string":
                return admin.set(redisKey, "queued")
              case "list":
                return admin.rpush(redisKey, "queued")
              case "set":
                return admin.sadd(redisKey, "queued")
              case "zset":
                return admin.zadd(redisKey, 1, "queued")
              default:
                return admin.xadd(redisKey, "*", "s", "queued")
            }
          })
          const dump = withAdmin((admin) => admin.dumpBuffer(redisKey))
          const before = yield* dump
          for (const [operation, run] of operations) {
            assert.deepStrictEqual(yield* Effect.flip(run(store, key)), { _tag: "WrongType", operation, key })
          }
          const { message, reason } = yield* Effect.flip(store.read(key))
          assert.deepStrictEqual(reason._tag === "WrongType" && reason.redisKey, redisKey)
          assert.include(message, redisKey)
          assert.deepStrictEqual(yield* dump, before)
        })
    )

    it.effect("with unknown fields is read and moved, and keeps them", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const news = { priority: "high", v2: "", S: "paused" }
        yield* put(key, { s: "executing", v, h: "worker 1", x: `${farOff}`, ...news })
        const claim = { fence: version, holder: "worker 1", expiresAt: DateTime.makeUnsafe(farOff) }
        const state = QueryState.make("Executing", { claim })
        assert.deepStrictEqual(yield* store.read(key), { key, state, version, attempts: 0, changedAt })

        const { changed, record } = yield* store.compareAndSet(key, { event: "Finish", fence: version })
        assert.isTrue(changed)
        assert.deepStrictEqual(record.state, QueryState.completed)
        const { o: _operation, ...fields } = yield* stored(key)
        assert.deepStrictEqual(fields, { s: "completed", v: `${record.version}`, ...news })
      }))

    it.effect("with unknown fields in its reason is read", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const r = JSON.stringify({ _tag: "Failed", error: "SqlError", message: "deadlock", line: 3 })
        yield* put(key, { s: "errored", v, r })
        const reason = Reason.failed({ error: "SqlError", message: "deadlock" })
        assert.deepStrictEqual(yield* store.read(key), {
          key,
          state: QueryState.make("Errored", { reason }),
          version,
          attempts: 0,
          changedAt
        })
      }))

    it.effect.each(["", "oops", "null", "{}", `["stock"]`, `[["warehouse","stock"]]`, `[["warehouse","",1]]`])(
      "with the waits '%s' is read without them, and renewed",
      (w) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* put(key, { s: "executing", v, a: "2", w, h: "worker 1", x: `${farOff}` })
          const claim = { fence: version, holder: "worker 1", expiresAt: DateTime.makeUnsafe(farOff) }
          const state = QueryState.make("Executing", { claim })
          assert.deepStrictEqual(yield* store.read(key), { key, state, version, attempts: 2, changedAt })
          const renewed = yield* store.renew(key, version, "1 hour")
          assert.deepStrictEqual([renewed.version, renewed.attempts, renewed.waitsFor], [version, 2, undefined])
        })
    )

    it.effect("without a state and a version counts as no record, and becomes one", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* put(key, { priority: "high" })
        assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
        assert.isTrue((yield* store.compareAndSet(key, { event: "Queue" })).changed)
        assert.strictEqual((yield* store.read(key)).state._tag, "Queued")
      }))
  }
)

/** A record that every operation trips over, each in its way. */
const poisons: ReadonlyArray<{
  readonly _tag: RedisStoreError.Failure["_tag"]
  readonly poison: (key: QueryKey.QueryKey) => Effect.Effect<unknown>
}> = [
  { _tag: "UnknownState", poison: (key) => put(key, { s: "paused", v }) },
  { _tag: "InvalidRecord", poison: (key) => put(key, { s: "executing", v: "soon" }) },
  { _tag: "WrongType", poison: (key) => withAdmin((admin) => admin.set(redisKeyOf(key), "queued")) }
]

it.layer(StoreLayer, { excludeTestServices: true, timeout: "30 seconds" })("A poisoned record", (it) => {
  it.effect.each(poisons)(
    "of $_tag does not affect other queries of its batch",
    ({ _tag, poison }) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const fleet = yield* QueryFleet.make
        const [before, bad, after] = yield* Effect.all([freshKey, freshKey, freshKey])
        yield* poison(bad)
        const failed = (operation: string) => Result.fail({ _tag, operation, key: bad })

        const answers = yield* store.compareAndSetMany([before, bad, after].map((key) => [key, { event: "Queue" }]))
        const records = yield* Effect.all([store.read(before), store.read(after)])
        assert.deepStrictEqual(records.map(({ state }) => state), [
          QueryState.make("Queued"),
          QueryState.make("Queued")
        ])
        assert.deepStrictEqual(
          answers.map(Result.mapError(errorFields)).map(Result.map(({ changed, record }) => [changed, record.version])),
          [
            Result.succeed([true, records[0].version]),
            failed("Queue"),
            Result.succeed([true, records[1].version])
          ]
        )
        assert.deepStrictEqual((yield* store.readMany([before, bad, after])).map(Result.mapError(errorFields)), [
          Result.succeed(records[0]),
          failed("read"),
          Result.succeed(records[1])
        ])
        const { Queued, Unreadable } = yield* fleet.summary([before, bad, after])
        assert.deepStrictEqual({ Queued, Unreadable }, { Queued: 2, Unreadable: 1 })
        const listed = yield* Stream.runCollect(fleet.list(before.db))
        assert.includeDeepMembers(listed, [...records])
        assert.notDeepInclude(listed.map(({ key }) => key), bad)
      })
  )

  it.effect.each(poisons)(
    "of $_tag ends waits, changes and runs with that error and executes nothing",
    ({ _tag, poison }) =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        yield* poison(key)
        const work = () => Effect.die("the work must not run")
        const errors = yield* Effect.all([
          Effect.flip(query.waitUntilComplete()),
          Effect.flip(Stream.runDrain(query.changes)),
          Effect.flip(query.withExecution(work)),
          Effect.flip(query.withReset(work)),
          Effect.flip(query.run({ execute: work, result: Effect.asSome(work()) }))
        ])
        assert.deepStrictEqual(
          errors.map((error) => error._tag === "RedisStoreError" ? errorFields(error) : error),
          ["read", "read", "Execute", "Reset", "Queue, Execute"].map((operation) => ({ _tag, operation, key }))
        )
      })
  )

  it.effect.each(poisons)(
    "of $_tag ends a wait that began before it",
    ({ _tag, poison }) =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        yield* driveTo(key, "Executing")
        const looks: Array<string> = []
        const schedule = Schedule.spaced("10 millis").pipe(
          Schedule.setInputType<{ readonly record: QueryRecord.QueryRecord }>(),
          Schedule.tap(({ input }) => Effect.sync(() => looks.push(input.record.state._tag)))
        )
        const waiter = yield* Effect.forkChild(Effect.flip(query.waitUntilComplete({ schedule })))
        yield* Effect.repeat(Effect.yieldNow, { until: () => looks.length > 0 })
        yield* poison(key)
        const error = yield* Fiber.join(waiter)
        assert.deepStrictEqual(error._tag === "RedisStoreError" && errorFields(error), { _tag, operation: "read", key })
      })
  )
})
