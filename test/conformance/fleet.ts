/**
 * What a `QueryFleet` does on every store. Each store's test file calls `suite`.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, type Layer, Queue, Result, Schedule, Stream } from "effect"
import {
  QueryFleet,
  QueryKey,
  QueryRecord,
  QueryState,
  Reason,
  RedisStore,
  RedisStoreError,
  RedisStoreFaults
} from "effect-query-state"
import { randomUUID } from "node:crypto"
import { withOpenSubscriptions } from "../support/openSubscriptions.ts"
import { driveTo, freshKey } from "../support/queries.ts"
import type { Limits } from "./store.ts"

export type Stores = RedisStore.RedisStore | RedisStoreFaults.RedisStoreFaults

const none: QueryFleet.Summary = {
  Known: 0,
  Queued: 0,
  Executing: 0,
  Completed: 0,
  Errored: 0,
  Cancelled: 0,
  Resetting: 0,
  ResetFailed: 0,
  Unreadable: 0
}

const thousands = 2_300

const freshKeys = (count: number) => Effect.replicateEffect(freshKey, count)

/** Queries of a fresh database. */
const keysOf = (db: string, count: number) =>
  Array.from({ length: count }, (_, index) => QueryKey.makeUnsafe({ db, query: `query ${index}` }))

/** One query in each state. */
const oneInEachState = (db: string) =>
  Effect.forEach(QueryState.tags, (tag) => driveTo(QueryKey.makeUnsafe({ db, query: tag }), tag))

const byQuery = (records: ReadonlyArray<QueryRecord.QueryRecord>) =>
  records.toSorted((left, right) => left.key.query < right.key.query ? -1 : 1)

const finish = (keys: ReadonlyArray<QueryKey.QueryKey>) =>
  Effect.flatMap(
    RedisStore.RedisStore,
    (store) =>
      Effect.forEach(keys, (key) => Effect.map(store.compareAndSet(key, { event: "Finish" }), ({ record }) => record))
  )

/** What a wait came to, as plain data. */
interface OutcomeFields {
  readonly key: QueryKey.QueryKey
  readonly result: Result.Result<QueryRecord.QueryRecord, unknown>
}

const succeeded = (record: QueryRecord.QueryRecord): OutcomeFields => ({
  key: record.key,
  result: Result.succeed(record)
})

const fieldsOf = ({ key, result }: QueryFleet.Outcome): OutcomeFields => ({
  key,
  result: Result.mapError(result, (error) =>
    error._tag === "StillPending"
      ? { _tag: error._tag, record: error.record }
      : { _tag: error.reason._tag })
})

const unreadable = new RedisStoreError.UnknownState({ raw: "paused" })
const outage = new RedisStoreError.ConnectionLost({})

/** Lets reads of some queries fail. */
const failReads = (reason: RedisStoreError.Failure, ...keys: ReadonlyArray<QueryKey.QueryKey>) =>
  RedisStoreFaults.RedisStoreFaults.use(({ inject }) =>
    inject((call) => call.operation === "read" && keys.includes(call.key) ? { _tag: "Fail", reason } : undefined)
  )

const heal = RedisStoreFaults.RedisStoreFaults.use((faults) => faults.heal)

const readCalls = RedisStoreFaults.RedisStoreFaults.use(({ calls }) =>
  Effect.map(calls, (calls) => calls.filter(({ operation }) => operation === "read").length)
)

export const suite = (
  name: string,
  layer: Layer.Layer<Stores, unknown>,
  { refusesDb = () => false }: Pick<Limits, "refusesDb"> = {}
) =>
  it.layer(layer, { excludeTestServices: true, timeout: "30 seconds" })(`QueryFleet (${name})`, (it) => {
    it.effect("no keys give empty answers", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        assert.deepStrictEqual(yield* fleet.readMany([]), [])
        assert.deepStrictEqual(yield* fleet.summary([]), none)
        assert.deepStrictEqual(yield* Stream.runCollect(fleet.list(QueryKey.DbId.make(randomUUID()))), [])
        assert.deepStrictEqual(yield* fleet.triggerMany("Queue", []), [])
        assert.deepStrictEqual(yield* Stream.runCollect(fleet.waitAll([])), [])
        assert.deepStrictEqual(yield* fleet.waitAllCollect([]), [])
      }))

    it.effect("readMany answers each record or its error in the order of the keys", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const records = yield* oneInEachState(randomUUID())
        const [broken, absent] = yield* Effect.all([freshKey, freshKey])
        yield* failReads(unreadable, broken)
        const keys = new Set([absent, ...records.map(({ key }) => key), broken])
        const answers = yield* fleet.readMany(keys)
        yield* heal
        assert.deepStrictEqual(
          answers.map(Result.mapError((error) => error.reason)),
          [
            Result.succeed(QueryRecord.absent(absent)),
            ...records.map((record) => Result.succeed(record)),
            Result.fail(unreadable)
          ]
        )
      }))

    it.effect("summary counts the queries in each state, without a record, and unreadable", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const records = yield* oneInEachState(randomUUID())
        const queued = keysOf(randomUUID(), thousands)
        yield* fleet.triggerMany("Queue", queued)
        const [broken = yield* freshKey] = queued
        yield* failReads(unreadable, broken)
        const summary = yield* fleet.summary([...records.map(({ key }) => key), yield* freshKey, ...queued])
        yield* heal
        assert.deepStrictEqual(summary, {
          Known: 2,
          Queued: 1 + thousands - 1,
          Executing: 1,
          Completed: 1,
          Errored: 1,
          Cancelled: 1,
          Resetting: 1,
          ResetFailed: 1,
          Unreadable: 1
        })
      }))

    it.effect("summary fails when the store fails, and sends nothing further", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const keys = yield* freshKeys(thousands)
        const [first = yield* freshKey] = keys
        yield* failReads(outage, first)
        const before = yield* readCalls
        const error = yield* Effect.flip(fleet.summary(keys))
        assert.deepStrictEqual([error.reason, error.key], [outage, first])
        assert.isBelow((yield* readCalls) - before, thousands / 2)
        yield* heal
      }))

    it.effect("list finds exactly the queries of a database that have a record", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const db = randomUUID()
        const records = yield* oneInEachState(db)
        const others = [`${db}:`, `${db}*`, `${db}a`, db.slice(0, -1), "*", "?"]
        for (const other of others.filter((id) => !refusesDb(id))) {
          yield* driveTo(QueryKey.makeUnsafe({ db: other, query: "Known" }), "Queued")
        }
        const listed = yield* Stream.runCollect(fleet.list(QueryKey.DbId.make(db)))
        assert.deepStrictEqual(byQuery(listed), byQuery(records.filter(({ version }) => version > 0)))
      }))

    it.effect("list finds the queries in the given states", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const db = QueryKey.DbId.make(randomUUID())
        const records = yield* oneInEachState(db)
        for (const states of [["Queued"], ["Errored", "Cancelled"], ["Known"], []] as const) {
          const listed = yield* Stream.runCollect(fleet.list(db, { states }))
          const expected = records.filter(({ state, version }) =>
            version > 0 && states.some((tag) => tag === state._tag)
          )
          assert.deepStrictEqual(byQuery(listed), byQuery(expected))
        }
      }))

    it.effect("list leaves out unreadable records, and fails when the store fails", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const db = QueryKey.DbId.make(randomUUID())
        const keys = keysOf(db, 3)
        yield* fleet.triggerMany("Queue", keys)
        const { inject } = yield* RedisStoreFaults.RedisStoreFaults
        const failSecond = (reason: RedisStoreError.Failure) =>
          inject((call) =>
            call.operation === "read" && call.key.query === "query 1" ? { _tag: "Fail", reason } : undefined
          )
        yield* failSecond(unreadable)
        const listed = yield* Stream.runCollect(fleet.list(db))
        assert.deepStrictEqual(byQuery(listed).map(({ key }) => key.query), ["query 0", "query 2"])
        yield* failSecond(outage)
        const error = yield* Effect.flip(Stream.runDrain(fleet.list(db)))
        assert.strictEqual(error.reason, outage)
        yield* heal
      }))

    it.effect("list finds thousands, and reads no more than its consumer takes", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const db = QueryKey.DbId.make(randomUUID())
        const keys = keysOf(db, thousands)
        yield* fleet.triggerMany("Queue", keys)
        const listed = yield* Stream.runCollect(fleet.list(db))
        assert.deepStrictEqual(
          [...new Set(listed.map(({ key }) => key.query))].toSorted(),
          keys.map(({ query }) => query).toSorted()
        )
        const before = yield* readCalls
        yield* Stream.runDrain(Stream.take(fleet.list(db), 1))
        assert.isBelow((yield* readCalls) - before, thousands / 2)
      }))

    it.effect("triggerMany moves each query whose state allows it, and answers in the order of the keys", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const records = yield* oneInEachState(randomUUID())
        const keys = records.map(({ key }) => key)
        const reason = Reason.requested({ by: "ada" })
        const answers = yield* fleet.triggerMany("Cancel", keys, { reason })
        const after = yield* fleet.readMany(keys)
        assert.deepStrictEqual(
          answers,
          after.map((result, index) =>
            Result.map(result, (record) => ({ record, changed: record.version !== records[index]?.version }))
          )
        )
        assert.deepStrictEqual(
          after.map(Result.map(({ state }) => state)),
          records.map(({ state }) =>
            Result.succeed(
              state._tag === "Queued" || state._tag === "Executing" ? QueryState.make("Cancelled", { reason }) : state
            )
          )
        )
      }))

    it.effect("triggerMany claims thousands of queries once each", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const keys = yield* freshKeys(thousands)
        const rounds = yield* Effect.all([
          fleet.triggerMany("Queue", keys, { holder: "worker 1", lease: "1 hour" }),
          fleet.triggerMany("Queue", keys, { holder: "worker 2", lease: "1 hour" })
        ], { concurrency: "unbounded" })
        const records = yield* fleet.readMany(keys)
        for (const [index, record] of records.entries()) {
          const answers = rounds.map((answers) => answers[index])
          assert.deepStrictEqual(
            answers.toSorted((left) => left !== undefined && Result.isSuccess(left) && left.success.changed ? -1 : 1),
            [true, false].map((changed) => Result.map(record, (record) => ({ record, changed })))
          )
        }
      }))

    it.effect("waitAll emits each outcome when it is known, in any order of the keys", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const keys = yield* freshKeys(4)
        yield* Effect.forEach(keys, (key) => driveTo(key, "Executing"))
        const outcomes = yield* Queue.unbounded<QueryFleet.Outcome>()
        yield* Effect.forkChild(Stream.runForEach(fleet.waitAll(keys), (outcome) => Queue.offer(outcomes, outcome)))
        for (const index of [2, 0, 3, 1]) {
          const [record] = yield* finish(keys.slice(index, index + 1))
          if (record === undefined) return assert.fail("it was finished")
          assert.deepStrictEqual(yield* Effect.map(Queue.take(outcomes), fieldsOf), succeeded(record))
        }
      }))

    it.effect("waitAll ends with the last outcome: known at once, later, too late or unreadable", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const store = yield* RedisStore.RedisStore
        const [known, later, tooLate, broken] = yield* Effect.all([freshKey, freshKey, freshKey, freshKey])
        yield* Effect.forEach([later, tooLate, broken], (key) => driveTo(key, "Executing"))
        yield* failReads(unreadable, broken)
        const waiting = yield* Effect.forkChild(
          Stream.runCollect(fleet.waitAll([later, tooLate, broken, known], { timeout: "500 millis" })),
          { startImmediately: true }
        )
        const finished = yield* finish([later])
        const outcomes = yield* Fiber.join(waiting)
        yield* heal
        const record = yield* store.read(tooLate)
        assert.sameDeepMembers(outcomes.map(fieldsOf), [
          succeeded(QueryRecord.absent(known)),
          ...finished.map(succeeded),
          { key: tooLate, result: Result.fail({ _tag: "StillPending", record }) },
          { key: broken, result: Result.fail({ _tag: "UnknownState" }) }
        ])
      }))

    it.effect("waitAllCollect answers in the order of the keys and waits by its schedule", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
        yield* injectNotifications(() => [])
        const keys = yield* freshKeys(30)
        yield* Effect.forEach(keys, (key) => driveTo(key, "Executing"))
        const schedule = Schedule.spaced("10 millis")
        const waiting = yield* Effect.forkChild(fleet.waitAllCollect(keys, { schedule }), { startImmediately: true })
        const finished = yield* finish(keys.toReversed())
        assert.deepStrictEqual((yield* Fiber.join(waiting)).map(fieldsOf), finished.toReversed().map(succeeded))
        yield* heal
      }))

    it.effect("thousands of queries are waited for at once, and each wait ends", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        const keys = yield* freshKeys(thousands)
        yield* fleet.triggerMany("Queue", keys)
        const waiting = yield* Effect.forkChild(Stream.runCollect(fleet.waitAll(keys)), { startImmediately: true })
        yield* fleet.triggerMany("Cancel", keys)
        const outcomes = yield* Fiber.join(waiting)
        const records = yield* fleet.readMany(keys)
        const resultOf = new Map(outcomes.map(({ key, result }) => [key, result]))
        const results: ReadonlyArray<unknown> = keys.map((key) => resultOf.get(key))
        assert.deepStrictEqual(results, records)
        assert.strictEqual(outcomes.length, thousands)
      }))

    it.effect("a consumer of waitAll that stops or is interrupted leaves no subscription", () =>
      withOpenSubscriptions((open) =>
        Effect.gen(function*() {
          const fleet = yield* QueryFleet.make
          const keys = yield* freshKeys(20)
          yield* fleet.triggerMany("Queue", keys)
          const subscribed = Effect.repeat(Effect.delay(open, 1), { until: (count) => count === keys.length })

          const collecting = yield* Effect.forkChild(fleet.waitAllCollect(keys))
          yield* subscribed
          yield* Fiber.interrupt(collecting)
          assert.strictEqual(yield* open, 0)

          const first = yield* Effect.forkChild(Stream.runHead(fleet.waitAll(keys)))
          yield* subscribed
          yield* fleet.triggerMany("Cancel", keys.slice(0, 1))
          yield* Fiber.join(first)
          assert.strictEqual(yield* open, 0)
        })
      ))
  })
