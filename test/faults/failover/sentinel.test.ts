import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Schedule, Scope } from "effect"
import { type QueryKey, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import * as Notifications from "../../support/Notifications.ts"
import { freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RedisSentinel from "../../support/RedisSentinel.ts"
import * as Replicated from "../../support/Replicated.ts"

/** Waits until the channel of a query has a subscriber on a server. */
const subscribed = ({ admin }: Replicated.Node, key: QueryKey.QueryKey) =>
  Replicated.until(async () => Number((await admin.pubsub("NUMSUB", redisKeyOf(key)))[1]) > 0)

/** Longer than the test: only a notification, or the read after a new connection, ends a wait. */
const schedule = Schedule.spaced("1 hour")

const survives = (sentinel: RedisSentinel.RedisSentinel, disturb: (primary: Replicated.Node) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const query = yield* QueryStateMachine.make(key)
    yield* query.enqueue
    const { next } = yield* Notifications.subscribe(key)
    const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
    const heard: Array<number> = []
    const listener = yield* Effect.forkChild(
      Effect.forever(Effect.tap(next, (version) => Effect.sync(() => heard.push(version))))
    )

    const work = Effect.gen(function*() {
      yield* subscribed(sentinel.primary, key)
      yield* Replicated.caughtUp(sentinel.primary)
      yield* disturb(sentinel.primary)
      const promoted = yield* RedisSentinel.promoted(sentinel)
      yield* subscribed(promoted, key)
      yield* Effect.repeat(Effect.sync(() => heard.includes(Number.POSITIVE_INFINITY)), {
        schedule: Schedule.spaced("10 millis"),
        until: (isTold) => isTold
      })
      return promoted
    })
    const promoted = yield* query.withExecution(() => work, { lease: "20 seconds" })
    assert.strictEqual((yield* Fiber.join(waiter)).state._tag, "Completed")
    yield* Fiber.interrupt(listener)
    assert.strictEqual(
      yield* Effect.promise(() => promoted.admin.hget(redisKeyOf(key), "s")),
      "completed"
    )
  }).pipe(
    Effect.scoped,
    Effect.provide(
      RedisStoreLive.layer({ redis: { sentinels: [...sentinel.addresses], name: sentinel.name } })
    )
  )

it.live("claimed work and waits continue on the replica that sentinels promote after a primary dies", () =>
  Effect.gen(function*() {
    const sentinel = yield* RedisSentinel.acquire()
    yield* survives(sentinel, (primary) => primary.server.stop)
  }))

it.live("a frozen primary is abandoned for the replica that its sentinels promote", () =>
  Effect.gen(function*() {
    const sentinel = yield* RedisSentinel.acquire()
    const scope = yield* Effect.scope
    yield* survives(sentinel, (primary) => Effect.provideService(Replicated.frozen(primary), Scope.Scope, scope))
  }))
