import { assert, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Redacted } from "effect"
import {
  QueryEvent,
  QueryKey,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreLive
} from "effect-query-state"
import { Redis } from "ioredis"
import { driveTo, freshKey, redisKeyOf } from "../support/queries.ts"
import * as RedisServer from "../support/RedisServer.ts"

/** A separate server, so that every command on it is known. */
class Server extends Context.Service<Server, {
  readonly url: string
  readonly admin: Redis
  /** What clients sent while an effect ran, and what scripts ran by themselves, as the server's MONITOR saw it. */
  readonly record: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Recording<A>, E, R>
}>()("test/roundTrips/Server") {
  static readonly layer = Layer.effect(
    Server,
    Effect.gen(function*() {
      const { url } = yield* RedisServer.acquire()
      const connect = Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (client) => Effect.sync(() => client.disconnect())
      )
      const admin = yield* connect
      const monitor = yield* Effect.acquireRelease(
        Effect.flatMap(connect, (client) => Effect.promise(() => client.monitor())),
        (client) => Effect.sync(() => client.disconnect())
      )

      const lines: Array<{ readonly isScript: boolean; readonly command: ReadonlyArray<string> }> = []
      const markers = new Map<string, Deferred.Deferred<number>>()
      monitor.on("monitor", (_time: string, command: ReadonlyArray<string>, source: string) => {
        const marker = markers.get(command[1] ?? "")
        if (marker === undefined) lines.push({ isScript: source === "lua", command })
        else Deferred.doneUnsafe(marker, Exit.succeed(lines.length))
      })

      // When the marker is seen, all earlier commands have been seen.
      const mark = Effect.gen(function*() {
        const marker = `marker ${markers.size}`
        const seen = Deferred.makeUnsafe<number>()
        markers.set(marker, seen)
        yield* Effect.promise(() => admin.echo(marker))
        return yield* Deferred.await(seen)
      })

      return {
        url,
        admin,
        record: Effect.fnUntraced(function*(effect) {
          const from = yield* mark
          const value = yield* effect
          const seen = lines.slice(from, yield* mark)
          const names = (isScript: boolean) =>
            seen.filter((line) => line.isScript === isScript).map(({ command }) => command[0]?.toLowerCase() ?? "")
          return { value, sent: names(false), byScripts: names(true) }
        })
      }
    })
  )
}

interface Recording<A> {
  readonly value: A
  readonly sent: ReadonlyArray<string>
  readonly byScripts: ReadonlyArray<string>
}

const Stores = Layer.unwrap(Effect.map(Server, ({ url }) => RedisStoreLive.layer({ url: Redacted.make(url) }))).pipe(
  Layer.provideMerge(Server.layer)
)

const lease = Duration.hours(1)
const calls = (count: number) => Array.from({ length: count }, () => "evalsha")

it.layer(Stores, { excludeTestServices: true, timeout: "30 seconds" })("RedisStoreLive", (it) => {
  it.effect("each transition is exactly one EVALSHA, also when it is refused", () =>
    Effect.gen(function*() {
      const { record } = yield* Server
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { sent } = yield* record(Effect.gen(function*() {
        for (let lives = 0; lives < 10; lives++) {
          for (const event of ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const) {
            yield* store.compareAndSet(key, { event, reason: Reason.interrupted, holder: "worker 1" })
          }
        }
        for (const event of QueryEvent.all) yield* Effect.exit(store.compareAndSet(key, { event, fence: 1, lease }))
      }))
      assert.deepStrictEqual(sent, calls(10 * 5 + QueryEvent.all.length))
    }))

  it.effect("each renewal and each read is exactly one EVALSHA", () =>
    Effect.gen(function*() {
      const { record } = yield* Server
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { version } = yield* driveTo(key, "Executing", { lease })
      const renewals = yield* record(Effect.replicateEffect(store.renew(key, version, lease), 10))
      assert.deepStrictEqual(renewals.sent, calls(10))
      const reads = yield* record(Effect.replicateEffect(store.read(key), 10))
      assert.deepStrictEqual(reads.sent, calls(10))
    }))

  it.effect("many commands and many reads are exactly one EVALSHA each", () =>
    Effect.gen(function*() {
      const { record } = yield* Server
      const store = yield* RedisStore.RedisStore
      const keys = yield* Effect.replicateEffect(freshKey, 700)
      const writes = yield* record(store.compareAndSetMany(keys.map((key) => [key, { event: "Queue" }])))
      assert.deepStrictEqual(writes.sent, calls(keys.length))
      const reads = yield* record(store.readMany(keys))
      assert.deepStrictEqual(reads.sent, calls(keys.length))
    }))

  const run = (query: QueryStateMachine.QueryStateMachine) =>
    query.run({ execute: () => Effect.succeed("executed"), result: Effect.succeedSome("fetched") })

  it.effect("a run that executes is exactly two EVALSHA, and a run of what is Completed is one", () =>
    Effect.gen(function*() {
      const { record } = yield* Server
      const query = yield* QueryStateMachine.make(yield* freshKey)
      const first = yield* record(run(query))
      assert.deepStrictEqual([first.value, first.sent], ["executed", calls(2)])
      const second = yield* record(run(query))
      assert.deepStrictEqual([second.value, second.sent], ["fetched", calls(1)])
    }))

  it.effect("a join is exactly two EVALSHA and a subscription", () =>
    Effect.gen(function*() {
      const { admin, record } = yield* Server
      const key = yield* freshKey
      const { version } = yield* driveTo(key, "Executing", { lease })
      const query = yield* QueryStateMachine.make(key)
      const store = yield* RedisStore.RedisStore
      const { sent, value } = yield* record(Effect.gen(function*() {
        const joined = yield* Effect.forkChild(run(query), { startImmediately: true })
        yield* Effect.repeat(Effect.promise(() => admin.pubsub("CHANNELS", `*{${key.db}:${key.query}}`)), {
          until: (channels) => Array.isArray(channels) && channels.length === 1
        })
        yield* store.compareAndSet(key, { event: "Finish", fence: version })
        return yield* Fiber.join(joined)
      }))
      assert.strictEqual(value, "fetched")
      // The last of them finishes the query.
      assert.deepStrictEqual(sent.filter((name) => name === "evalsha"), calls(2 + 1))
      assert.deepStrictEqual(sent.filter((name) => name === "subscribe"), ["subscribe"])
    }))

  it.effect("invalid input is never sent", () =>
    Effect.gen(function*() {
      const { record } = yield* Server
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { sent } = yield* record(Effect.exit(store.compareAndSet(key, { event: "Queue", holder: "" })))
      assert.deepStrictEqual(sent, [])
    }))

  it.effect.each<[operation: string, run: (store: Store, key: QueryKey.QueryKey) => Effect.Effect<unknown, unknown>]>([
    ["a transition", (store, key) => store.compareAndSet(key, { event: "Queue" })],
    ["a renewal", (store, key) => store.renew(key, 1, lease)],
    ["a read", (store, key) => store.read(key)]
  ])("after SCRIPT FLUSH %s costs one more command, once", ([, run]) =>
    Effect.gen(function*() {
      const { admin, record } = yield* Server
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* Effect.promise(() => admin.script("FLUSH"))
      const { sent } = yield* record(Effect.replicateEffect(Effect.exit(run(store, key)), 3))
      assert.deepStrictEqual(sent, ["evalsha", "eval", "evalsha", "evalsha"])
    }))

  it.effect("reads and refused commands write nothing, even without a record", () =>
    Effect.gen(function*() {
      const { admin, record } = yield* Server
      const store = yield* RedisStore.RedisStore
      const absent = yield* freshKey
      const held = yield* freshKey
      yield* driveTo(held, "Executing", { lease })
      const size = yield* Effect.promise(() => admin.dbsize())
      const { byScripts } = yield* record(Effect.gen(function*() {
        for (const key of [absent, held]) {
          yield* store.read(key)
          yield* store.readMany([key, key])
          yield* store.compareAndSet(key, { event: "Reset", holder: "worker 1" })
          yield* Effect.flip(store.compareAndSet(key, { event: "Cancel", fence: 1 }))
          yield* Effect.flip(store.renew(key, 1, lease))
        }
      }))
      assert.deepStrictEqual(new Set(byScripts), new Set(["time", "hmget"]))
      assert.strictEqual(yield* Effect.promise(() => admin.dbsize()), size)
    }))
})

type Store = RedisStore.RedisStore["Service"]

/** All that Redis stores of a query: the fields of its record, except the id of the operation, and their encoding. */
const stored = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
  const { admin } = yield* Server
  const name = redisKeyOf(key)
  return yield* Effect.promise(async () => {
    const { o: operation, ...fields } = await admin.hgetall(name)
    return { fields, operation, encoding: await admin.object("ENCODING", name), timeToLive: await admin.pttl(name) }
  })
})

const operationId = /^\d{19}$/

it.layer(Stores, { excludeTestServices: true, timeout: "30 seconds" })("Representation in Redis", (it) => {
  it.effect("a query has no key before its first transition, and one key afterwards", () =>
    Effect.gen(function*() {
      const { admin } = yield* Server
      const key = QueryKey.makeUnsafe({ db: "ware:house", query: "{daily} totals/100%" })
      yield* driveTo(key, "Known")
      assert.deepStrictEqual(yield* Effect.promise(() => admin.keys("query-state:{ware*")), [])
      yield* driveTo(key, "Completed")
      const expected = ["query-state:{ware%3Ahouse:%7Bdaily%7D%20totals%2F100%25}"]
      assert.deepStrictEqual(yield* Effect.promise(() => admin.keys("query-state:{ware*")), expected)
    }))

  it.effect("another prefix has its own queries", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* Server
      const key = yield* freshKey
      yield* driveTo(key, "Executing")
      yield* driveTo(key, "Queued").pipe(
        Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url), prefix: "reports:2024" }))
      )
      const name = `{${key.db}:${key.query}}`
      assert.deepStrictEqual(
        yield* Effect.promise(() =>
          Promise.all([`query-state:${name}`, `reports:2024:${name}`].map((name) => admin.hget(name, "s")))
        ),
        ["executing", "queued"]
      )
    }))

  it.effect.each(QueryState.tags.filter((tag) => tag !== "Known").map((tag) => ({ tag })))(
    "a plain record is a state, a version and its attempts, without expiry: $tag",
    ({ tag }) =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const { attempts, version } = yield* driveTo(key, tag)
        const { operation, ...rest } = yield* stored(key)
        assert.match(operation ?? "", operationId)
        assert.deepStrictEqual(rest, {
          fields: {
            s: QueryState.wireNames[tag],
            v: `${version}`,
            ...(attempts === 0 ? undefined : { a: `${attempts}` })
          },
          encoding: "listpack",
          timeToLive: -1
        })
      })
  )

  it.effect("a record that was reset expires within a minute, and no more once it is queued again", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* driveTo(key, "Resetting")
      const reset = yield* store.compareAndSet(key, { event: "FinishReset" })
      const { operation, timeToLive, ...known } = yield* stored(key)
      assert.match(operation ?? "", operationId)
      assert.deepStrictEqual(known, { fields: { s: "known", v: `${reset.record.version}` }, encoding: "listpack" })
      assert.isAbove(timeToLive, 0)
      assert.isAtMost(timeToLive, Duration.toMillis(RedisStore.knownTimeToLive))

      const queued = yield* store.compareAndSet(key, { event: "Queue" })
      const { fields, timeToLive: timeToLiveWhenQueued } = yield* stored(key)
      assert.deepStrictEqual(fields, { s: "queued", v: `${queued.record.version}` })
      assert.strictEqual(timeToLiveWhenQueued, -1)
    }))

  it.effect("a claim adds its holder and its end until the next transition", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { changedAt, version } = yield* driveTo(key, "Executing", { holder: "worker 1", lease })
      const { fields } = yield* stored(key)
      assert.deepStrictEqual(fields, {
        s: "executing",
        v: `${version}`,
        a: "1",
        h: "worker 1",
        x: `${(changedAt?.epochMilliseconds ?? 0) + Duration.toMillis(lease)}`
      })
      const { record } = yield* store.compareAndSet(key, { event: "Finish", fence: version })
      assert.deepStrictEqual((yield* stored(key)).fields, { s: "completed", v: `${record.version}` })
    }))

  it.effect("what a holder waits for is JSON, until it waits for nothing", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { version } = yield* driveTo(key, "Executing")
      const other = QueryKey.makeUnsafe({ db: "warehouse", query: "stock" })
      yield* store.renew(key, version, lease, { waitsFor: [{ key: other, version: 7 }] })
      assert.strictEqual((yield* stored(key)).fields["w"], `[["warehouse","stock",7]]`)
      yield* store.renew(key, version, lease, { waitsFor: [] })
      assert.isUndefined((yield* stored(key)).fields["w"])
    }))

  it.effect("a reason is JSON, until the next transition", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* driveTo(key, "Executing")
      const reason = Reason.failed({ error: "SqlError", message: "deadlock" })
      const errored = yield* store.compareAndSet(key, { event: "Error", reason })
      assert.deepStrictEqual((yield* stored(key)).fields, {
        s: "errored",
        v: `${errored.record.version}`,
        a: "1",
        r: `{"_tag":"Failed","error":"SqlError","message":"deadlock"}`
      })
      const resetting = yield* store.compareAndSet(key, { event: "Reset" })
      assert.deepStrictEqual((yield* stored(key)).fields, { s: "resetting", v: `${resetting.record.version}`, a: "1" })
    }))

  it.effect("a lapse is recorded as a transition without a holder", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* driveTo(key, "Queued", { holder: "worker 1", lease: "1 millis" })
      const { version } = yield* Effect.repeat(store.read(key), { until: ({ state }) => state._tag === "Cancelled" })
      const { fields, operation } = yield* stored(key)
      assert.include(["", undefined], operation)
      assert.deepStrictEqual({ ...fields, r: JSON.parse(fields["r"] ?? "") }, {
        s: "cancelled",
        v: `${version}`,
        r: { _tag: "LeaseExpired", holder: "worker 1" }
      })
    }))

  it.effect("versions grow with any clock, and the time is stored beside them", () =>
    Effect.gen(function*() {
      const { admin } = yield* Server
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      // The server that wrote this record had a clock a hundred years ahead.
      const version = 4_900_000_000_000_000
      yield* Effect.promise(() => admin.hset(redisKeyOf(key), { s: "queued", v: version }))
      const { record } = yield* store.compareAndSet(key, { event: "Execute" })
      assert.strictEqual(record.version, version + 1)
      assert.isBelow(record.changedAt?.epochMilliseconds ?? Infinity, version / 1000)
      assert.deepStrictEqual((yield* stored(key)).fields, {
        s: "executing",
        v: `${version + 1}`,
        a: "1",
        t: `${record.changedAt?.epochMilliseconds}`
      })
      assert.deepStrictEqual(yield* store.read(key), record)
    }))
})
