/** A request arrives at the server when its caller no longer waits: TCP delivers what a closed socket had sent. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted } from "effect"
import { type QueryEvent, QueryState, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

class World extends Context.Service<World, {
  readonly admin: Redis
  readonly proxy: Proxy.Proxy
  /** A store behind the proxy. The store of the context is not. */
  readonly cutOff: RedisStore.RedisStore["Service"]
}>()("test/faults/lateRequest/World") {}

const commandTimeout = "1 second"

const Stores = Layer.unwrap(Effect.gen(function*() {
  const server = yield* RedisServer.acquire()
  const proxy = yield* Proxy.acquire(server)
  const behindProxy = RedisStoreLive.layer({ url: Redacted.make(proxy.url), commandTimeout })
  const world = {
    admin: yield* RedisAdmin.connect(server.url),
    cutOff: Context.get(yield* Layer.build(behindProxy), RedisStore.RedisStore),
    proxy
  }
  return Layer.merge(Layer.succeed(World, world), RedisStoreLive.layer({ url: Redacted.make(server.url) }))
}))

const serverMicros = Effect.fnUntraced(function*(admin: Redis) {
  const [seconds = 0, micros = 0] = (yield* Effect.promise(() => admin.time())).map(Number)
  return seconds * 1_000_000 + micros
})

/** Where a command finds the query, and what others do after its resend, so that it would be accepted once more. */
const fullCircles: ReadonlyArray<[
  event: QueryEvent.QueryEvent,
  from: QueryState.Tag,
  others: ReadonlyArray<QueryEvent.QueryEvent>
]> = [
  ["Queue", "Known", ["Execute", "Finish", "Reset", "FinishReset"]],
  ["Cancel", "Executing", ["Reset", "FinishReset", "Queue", "Execute"]]
]

it.layer(Stores, { excludeTestServices: true, timeout: "30 seconds" })(
  "A request that arrives after its resend",
  (it) => {
    it.effect.each(fullCircles)(
      "is not carried out once its command has timed out: %s",
      ([event, from, others]) =>
        Effect.gen(function*() {
          const { admin, cutOff, proxy } = yield* World
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* driveTo(key, from)
          // So the time of the server is known, which was not before what others did.
          yield* cutOff.read(yield* freshKey)
          yield* proxy.hold(key.query)
          const sentBefore = yield* serverMicros(admin)
          const sending = yield* Effect.forkChild(cutOff.compareAndSet(key, { event }), { startImmediately: true })
          yield* Effect.repeat(proxy.holds, {
            until: (holds) => holds
          })
          yield* proxy.abandon
          assert.isTrue((yield* Fiber.join(sending)).changed)
          const { record } = yield* store.compareAndSet(key, { event: [others[0] ?? event, ...others.slice(1)] })
          assert.strictEqual(record.state._tag, from)

          yield* Effect.repeat(serverMicros(admin), { until: (now) => now > sentBefore + 1_500_000 })
          const scripts = yield* ServerStats.scripts(admin)
          yield* proxy.pass
          yield* Effect.repeat(ServerStats.scripts(admin), { until: (now) => now > scripts })
          assert.deepStrictEqual(yield* store.read(key), record)
        })
    )

    it.effect("is sent again with the time of the server, if the clock of the server was set meanwhile", () =>
      Effect.gen(function*() {
        const { admin, cutOff, proxy } = yield* World
        const key = yield* freshKey
        const late = ["*8", ":-4", `:${yield* serverMicros(admin)}`, ...Array.from({ length: 6 }, () => "$-1")]
        yield* proxy.answer(late.join("\r\n"))
        const { changed, record } = yield* cutOff.compareAndSet(key, { event: "Queue" })
        assert.deepStrictEqual([changed, record.state], [true, QueryState.make("Queued")])
      }))
  }
)
