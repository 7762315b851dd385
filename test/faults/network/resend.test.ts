/** The connection breaks when a script has run and before its answer is there, so that it is sent again. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Context, Duration, Effect, Fiber, Layer, Redacted, Result } from "effect"
import { QueryKey, QueryRecord, QueryState, Reason, RedisStore, RedisStoreLive, Transition } from "effect-query-state"
import type { Redis } from "ioredis"
import * as Proxy from "../../support/Proxy.ts"
import * as PublishedNotifications from "../../support/PublishedNotifications.ts"
import { driveTo, errorFields, freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RawRecord from "../../support/RawRecord.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

type Store = RedisStore.RedisStore["Service"]

class World extends Context.Service<World, {
  readonly admin: Redis
  readonly proxy: Proxy.Proxy
  readonly notifications: PublishedNotifications.PublishedNotifications
  /** A store behind the proxy. The store of the context is not. */
  readonly cutOff: Store
}>()("test/faults/resend/World") {}

const storeAt = ({ url }: { readonly url: string }) => RedisStoreLive.layer({ url: Redacted.make(url) })

const Stores = Layer.unwrap(Effect.gen(function*() {
  const server = yield* RedisServer.acquire()
  const proxy = yield* Proxy.acquire(server)
  const { db } = yield* freshKey
  const world = {
    admin: yield* RedisAdmin.connect(server.url),
    notifications: yield* PublishedNotifications.listen(server.url, db),
    cutOff: Context.get(yield* Layer.build(storeAt(proxy)), RedisStore.RedisStore),
    proxy
  }
  return Layer.merge(Layer.succeed(World, world), storeAt(server))
}))

const lease = Duration.hours(1)
const reason = Reason.requested({ by: "ada" })

/** Performs an operation whose reply is lost. Returns how many scripts ran, and the notifications sent meanwhile. */
const unanswered = Effect.fnUntraced(
  function*<A, E>(key: QueryKey.QueryKey, operation: (store: Store) => Effect.Effect<A, E>) {
    const { admin, notifications, cutOff, proxy } = yield* World
    const before = { notified: yield* notifications.of(key), scripts: yield* ServerStats.scripts(admin) }
    yield* proxy.cutBeforeReply
    const result = yield* Effect.result(operation(cutOff))
    return {
      result,
      scripts: (yield* ServerStats.scripts(admin)) - before.scripts,
      notified: (yield* notifications.of(key)).slice(before.notified.length)
    }
  }
)

/** Presents the claim where there is one. */
const fenceOf = ({ state, version }: { readonly state: QueryState.QueryState; readonly version: number }) =>
  QueryState.isPending(state) ? version : undefined

const pendingTags = (["Queued", "Executing", "Resetting"] as const).map((tag) => ({ tag }))

it.layer(Stores, { excludeTestServices: true, timeout: "30 seconds" })("A script whose reply is lost", (it) => {
  it.effect.each(Transition.edges)(
    "moves a query from $from to $to by $event once, notifies once, and gives the first answer",
    ({ event, from, to }) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const before = yield* driveTo(key, from, { holder: "worker 1", lease })
        const command = { event, fence: fenceOf(before), holder: "worker 1", lease, reason }
        const { notified, result, scripts } = yield* unanswered(key, (store) => store.compareAndSet(key, command))
        const record = yield* store.read(key)
        assert.strictEqual(record.state._tag, to)
        assert.strictEqual(scripts, 2)
        assert.deepStrictEqual(notified, [{ version: record.version, state: QueryState.wireNames[to] }])
        assert.deepStrictEqual(result, Result.succeed({ record, changed: true }))
      })
  )

  it.effect("gives a record the expiry that it was given first", () =>
    Effect.gen(function*() {
      const { admin } = yield* World
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { version: fence } = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
      const finish = { event: "Finish", fence, timeToLive: "1 hour" } as const
      const { notified, result, scripts } = yield* unanswered(key, (store) => store.compareAndSet(key, finish))
      const record = yield* store.read(key)
      assert.deepStrictEqual(
        yield* Effect.promise(() => admin.pexpiretime(redisKeyOf(key))),
        record.keptUntil?.epochMilliseconds
      )
      assert.deepStrictEqual({ result, scripts, notified }, {
        result: Result.succeed({ record, changed: true }),
        scripts: 2,
        notified: [{ version: record.version, state: "completed" }]
      })
    }))

  it.effect.each([["Finish", "success"], ["Error", "failure"]] as const)(
    "leaves what a run leaves with %s once, as a %s",
    ([event, kind]) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version: fence } = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
        const command = { event, fence, timeToLive: "1 hour", result: { _tag: "Leave", text: "left" } } as const
        const { result, scripts } = yield* unanswered(key, (store) => store.compareAndSet(key, command))
        const record = yield* store.read(key)
        assert.deepStrictEqual({ result, scripts }, { result: Result.succeed({ record, changed: true }), scripts: 2 })
        assert.deepStrictEqual(yield* store.results(key), { [kind]: { version: record.version, text: "left" } })
      })
  )

  it.effect("drops results once, and not those of the run after it", () =>
    Effect.gen(function*() {
      const { cutOff, proxy } = yield* World
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const path = ["Queue", "Execute", "Finish"] as const
      yield* store.compareAndSet(key, { event: path, result: { _tag: "Leave", text: "one" } })
      yield* proxy.refuse
      yield* proxy.cutBeforeReply
      const dropping = yield* Effect.forkChild(
        Effect.flip(cutOff.compareAndSet(key, { event: ["Reset", "FinishReset"], result: { _tag: "Drop" } }))
      )
      yield* Effect.repeat(store.read(key), { until: ({ state }) => state._tag === "Known" })
      yield* store.compareAndSet(key, { event: path, result: { _tag: "Leave", text: "two" } })
      const reset = yield* store.compareAndSet(key, { event: ["Reset", "FinishReset"] })
      yield* proxy.pass
      assert.strictEqual(errorFields(yield* Fiber.join(dropping))["_tag"], "ConnectionLost")
      assert.deepStrictEqual(yield* store.read(key), reset.record)
      assert.strictEqual((yield* store.results(key)).success?.text, "two")
    }))

  it.effect("is reported as unknown when the record has expired meanwhile, and not as a lost claim", () =>
    Effect.gen(function*() {
      const { admin, cutOff, proxy } = yield* World
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { version: fence } = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
      yield* proxy.refuse
      yield* proxy.cutBeforeReply
      const finish = { event: "Finish", fence, timeToLive: "10 millis" } as const
      const finishing = yield* Effect.forkChild(Effect.flip(cutOff.compareAndSet(key, finish)))
      yield* Effect.repeat(Effect.promise(() => admin.exists(redisKeyOf(key))), { until: (count) => count === 0 })
      yield* proxy.pass
      assert.deepStrictEqual(errorFields(yield* Fiber.join(finishing)), {
        _tag: "ConnectionLost",
        operation: "Finish",
        key
      })
      assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
    }))

  it.effect.each(pendingTags)(
    "gives the first refusal or LeaseLost again: $tag",
    ({ tag }) =>
      Effect.gen(function*() {
        const { cutOff } = yield* World
        const key = yield* freshKey
        yield* driveTo(key, tag, { holder: "worker 1", lease })
        // What moved but now may have been moved by the very command that is sent again.
        const record = yield* cutOff.read(key)
        const refused = yield* unanswered(key, (store) => store.compareAndSet(key, { event: "Queue" }))
        assert.deepStrictEqual(refused, {
          result: Result.succeed({ record, changed: false }),
          scripts: 2,
          notified: []
        })

        const late = yield* unanswered(
          key,
          (store) => Effect.mapError(store.compareAndSet(key, { event: "Queue", fence: 1 }), errorFields)
        )
        const lost = Result.fail({ _tag: "LeaseLost", fence: 1, record })
        assert.deepStrictEqual<unknown>(late, { result: lost, scripts: 2, notified: [] })
      })
  )

  it.effect.each(pendingTags)(
    "renews a lease on a query that is $tag and changes no state",
    ({ tag }) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version } = yield* driveTo(key, tag, { holder: "worker 1", lease: "1 minute" })
        const { notified, result, scripts } = yield* unanswered(key, (store) => store.renew(key, version, lease))
        const record = yield* store.read(key)
        assert.strictEqual(record.version, version)
        assert.deepStrictEqual({ result, scripts, notified }, {
          result: Result.succeed(record),
          scripts: 2,
          notified: []
        })
      })
  )

  it.effect.each(pendingTags)(
    "settles a lapsed lease on a query that is $tag once and reads",
    ({ tag }) =>
      Effect.gen(function*() {
        const { admin } = yield* World
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* driveTo(key, tag, { holder: "worker 1", lease: "1 millis" })
        yield* RawRecord.lapse(admin, key)
        const { notified, result, scripts } = yield* unanswered(key, (store) => store.read(key))
        const record = yield* store.read(key)
        assert.isTrue(QueryState.isDeterminate(record.state))
        assert.strictEqual(scripts, 2)
        assert.deepStrictEqual(notified, [{ version: record.version, state: QueryState.wireNames[record.state._tag] }])
        assert.deepStrictEqual(result, Result.succeed(record))
      })
  )

  it.effect("in a batch runs once and is answered in its place", () =>
    Effect.gen(function*() {
      const { notifications, cutOff, proxy } = yield* World
      const store = yield* RedisStore.RedisStore
      const keys = yield* Effect.replicateEffect(freshKey, 700)
      yield* proxy.cutBeforeReply
      const answers = yield* cutOff.compareAndSetMany(keys.map((key) => [key, { event: "Queue" }]))
      const records = yield* store.readMany(keys)
      assert.deepStrictEqual<unknown>(
        answers,
        records.map(Result.map((record) => ({ record, changed: true })))
      )
      const notified = yield* Effect.forEach(keys, notifications.of)
      assert.deepStrictEqual(
        notified.map((notified) => notified.map(({ state }) => state)),
        keys.map(() => ["queued"])
      )
    }))

  it.effect.each<[what: string, others: ReadonlyArray<"Cancel" | "Reset" | "FinishReset">]>([
    ["moved the query on", ["Cancel"]],
    ["moved the query on and back to where it was", ["Cancel", "Reset", "FinishReset"]]
  ])(
    "is not run again when others %s meanwhile, and an unknown outcome is reported as unknown",
    ([, others]) =>
      Effect.gen(function*() {
        const { notifications, cutOff, proxy } = yield* World
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* proxy.refuse
        yield* proxy.cutBeforeReply
        const queueing = yield* Effect.forkChild(Effect.flip(cutOff.compareAndSet(key, { event: "Queue" })))
        yield* Effect.repeat(notifications.of(key), { until: Arr.isReadonlyArrayNonEmpty })
        for (const event of others) assert.isTrue((yield* store.compareAndSet(key, { event })).changed)
        const record = yield* store.read(key)
        yield* proxy.pass
        assert.deepStrictEqual(errorFields(yield* Fiber.join(queueing)), {
          _tag: "ConnectionLost",
          operation: "Queue",
          key
        })
        assert.deepStrictEqual(yield* store.read(key), record)
      })
  )

  it.effect("is not taken as executed when it never reached the server, although others just moved the query", () =>
    Effect.gen(function*() {
      const { cutOff, proxy } = yield* World
      yield* Effect.replicateEffect(
        Effect.gen(function*() {
          const key = yield* freshKey
          yield* driveTo(key, "Queued")
          // So the time of the server is known, which was not before what others did.
          yield* cutOff.read(yield* freshKey)
          yield* proxy.blackHole
          const executing = yield* Effect.forkChild(cutOff.compareAndSet(key, { event: "Execute" }), {
            startImmediately: true
          })
          yield* Effect.sleep("5 millis")
          // What was lost on the way takes the connection with it.
          yield* proxy.pass
          const { changed, record } = yield* Fiber.join(executing)
          assert.deepStrictEqual([changed, record.state], [true, QueryState.make("Executing")])
        }),
        5
      )
    }))
})
