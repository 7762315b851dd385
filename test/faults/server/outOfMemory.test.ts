import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import {
  type QueryEvent,
  QueryState,
  Reason,
  RedisStore,
  RedisStoreFlowMachine,
  RedisStoreLive,
  Transition
} from "effect-query-state"
import { driveTo, errorFields, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

const leadsToPending = (event: QueryEvent.QueryEvent) =>
  Transition.edges.some((edge) => edge.event === event && QueryState.isPending(QueryState.make(edge.to)))

const stores = [
  { name: "Redis", storeAt: (url: string) => RedisStoreLive.layer({ url: Redacted.make(url) }) },
  {
    name: "FlowMachine's Redis",
    storeAt: (url: string) => RedisStoreFlowMachine.layer({ url: Redacted.make(url), dialect: "reset-failed" })
  }
]

it.live.each(stores)(
  "at maxmemory in $name, claims fail, while held claims can be renewed, finished and settled",
  ({ storeAt }) =>
    Effect.gen(function*() {
      const { url } = yield* RedisServer.acquire()
      const admin = yield* RedisAdmin.connect(url)

      yield* Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const held = yield* Effect.forEach(Transition.edges, (edge) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            return { ...edge, key, before: yield* driveTo(key, edge.from, { lease: "1 hour" }) }
          }))
        const lapsing = yield* freshKey
        yield* driveTo(lapsing, "Executing", { holder: "worker 1", lease: "1 millis" })
        yield* Effect.promise(() => admin.config("SET", "maxmemory", "1mb"))

        for (const { before, event, from, key, to } of held) {
          const fence = QueryState.isPending(before.state) ? before.version : undefined
          if (fence !== undefined) yield* store.renew(key, fence, "2 hours")
          const step = store.compareAndSet(key, { event, fence })
          if (leadsToPending(event)) {
            assert.deepStrictEqual(errorFields(yield* Effect.flip(step)), {
              _tag: "OutOfMemory",
              operation: event,
              key
            })
            assert.strictEqual((yield* store.read(key)).state._tag, from)
          } else {
            assert.deepStrictEqual((yield* step).record.state, QueryState.make(to))
          }
        }
        assert.deepStrictEqual(
          (yield* store.read(lapsing)).state,
          QueryState.make("Errored", { reason: Reason.leaseExpired("worker 1") })
        )

        yield* Effect.promise(() => admin.config("SET", "maxmemory", "0"))
        assert.isTrue((yield* store.compareAndSet(yield* freshKey, { event: "Queue" })).changed)
      }).pipe(Effect.provide(storeAt(url)))
    })
)
