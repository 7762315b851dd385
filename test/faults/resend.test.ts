/** A script that Redis has run, and whose reply is lost with its connection. */
import { assert, it } from "@effect/vitest"
import { Context, type Duration, Effect, Fiber, Layer, Redacted } from "effect"
import { type QueryKey, QueryState, RedisStore, RedisStoreLive } from "effect-query-state"
import * as Announcements from "../support/announcements.ts"
import * as Proxy from "../support/Proxy.ts"
import { driveTo, freshKey, told } from "../support/queries.ts"
import * as RedisServer from "../support/RedisServer.ts"

type Store = RedisStore.RedisStore["Service"]

/** What is sent, to a query in which state, and which answer it gets; `moves` is how often it moves the query on. */
interface Case {
  readonly from: QueryState.Tag
  readonly lease?: Duration.Input
  readonly send: (store: Store, key: QueryKey.QueryKey, fence: number) => Effect.Effect<unknown, unknown>
  readonly to: QueryState.Tag
  readonly moves: number
}

const cases: Readonly<Record<string, Case>> = {
  "a claim": {
    from: "Known",
    send: (store, key) => store.compareAndSet(key, { event: "Queue", lease: "1 hour", holder: "first" }),
    to: "Queued",
    moves: 1
  },
  "a claim with a fence": {
    from: "Queued",
    lease: "1 hour",
    send: (store, key, fence) => store.compareAndSet(key, { event: "Execute", fence, lease: "1 hour" }),
    to: "Executing",
    moves: 1
  },
  "a conclusion": {
    from: "Executing",
    lease: "1 hour",
    send: (store, key, fence) => store.compareAndSet(key, { event: "Finish", fence }),
    to: "Completed",
    moves: 1
  },
  "a cancellation": {
    from: "Executing",
    lease: "1 hour",
    send: (store, key) => store.compareAndSet(key, { event: "Cancel" }),
    to: "Cancelled",
    moves: 1
  },
  "a read": { from: "Executing", lease: "1 hour", send: (store, key) => store.read(key), to: "Executing", moves: 0 },
  "a read that settles a lapsed lease": {
    from: "Executing",
    lease: "5 millis",
    send: (store, key) => Effect.delay(store.read(key), "30 millis"),
    to: "Errored",
    moves: 1
  },
  "a renewal": {
    from: "Executing",
    lease: "1 hour",
    send: (store, key, fence) => store.renew(key, fence, "2 hours"),
    to: "Executing",
    moves: 0
  }
}

const storeAt = (url: string) =>
  Effect.map(
    Layer.build(RedisStoreLive.layer({ url: Redacted.make(url) })),
    (context) => Context.get(context, RedisStore.RedisStore)
  )

it.live.each(Object.entries(cases))(
  "%s whose reply is lost moves the query on once, is published once, and is answered as if nothing had been lost",
  ([, { from, lease, moves, send, to }]) =>
    Effect.gen(function*() {
      const server = yield* RedisServer.acquire()
      const proxy = yield* Proxy.acquire(server)
      const direct = yield* storeAt(server.url)
      const store = yield* storeAt(proxy.url)
      const key = yield* freshKey
      const announcements = yield* Announcements.listen(server.url, key.db)
      const before = yield* Effect.provideService(
        driveTo(key, from, lease === undefined ? undefined : { lease }),
        RedisStore.RedisStore,
        direct
      )
      const announcedBefore = yield* announcements.of(key)

      yield* proxy.cutBeforeReply
      const answer = yield* send(store, key, before.version)

      const record = yield* direct.read(key)
      assert.strictEqual(record.state._tag, to)
      const announced = (yield* announcements.of(key)).slice(announcedBefore.length)
      assert.deepStrictEqual(
        announced,
        Array.from({ length: moves }, () => ({ version: record.version, state: QueryState.wireNames[to] }))
      )
      assert.strictEqual(record.version > before.version, moves === 1)
      assert.deepStrictEqual(
        answer,
        typeof answer === "object" && answer !== null && "changed" in answer ? { record, changed: true } : record
      )
    })
)

it.live.each<[what: string, followed: ReadonlyArray<"Cancel" | "Reset" | "FinishReset">]>([
  ["have followed", ["Cancel"]],
  ["have followed, back to where it would be accepted again,", ["Cancel", "Reset", "FinishReset"]]
])(
  "a command that others %s when it is sent again fails, and says that it may have been carried out",
  ([, followed]) =>
    Effect.gen(function*() {
      const server = yield* RedisServer.acquire()
      const proxy = yield* Proxy.acquire(server)
      const direct = yield* storeAt(server.url)
      const store = yield* storeAt(proxy.url)
      const key = yield* freshKey
      // The time of the server is known here by now.
      yield* store.read(key)

      yield* Effect.all([proxy.cutBeforeReply, proxy.refuse])
      const sent = yield* Effect.forkChild(Effect.flip(store.compareAndSet(key, { event: "Queue" })), {
        startImmediately: true
      })
      yield* Effect.repeat(Effect.delay(direct.read(key), 1), { until: ({ state }) => state._tag === "Queued" })
      for (const event of followed) yield* direct.compareAndSet(key, { event })
      const last = yield* direct.read(key)
      yield* proxy.pass
      assert.deepStrictEqual(told(yield* Fiber.join(sent)), { _tag: "ConnectionLost", operation: "Queue", key })
      assert.deepStrictEqual(yield* store.read(key), last)
    })
)
