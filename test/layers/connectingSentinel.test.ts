import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"
import { RedisStoreLive } from "effect-query-state"
import type { RedisOptions } from "ioredis"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import * as RedisSentinel from "../support/RedisSentinel.ts"
import * as Replicated from "../support/Replicated.ts"

const sentinelPassword = "sesame"

class Sentinel extends Context.Service<Sentinel, RedisSentinel.RedisSentinel>()("test/connectingSentinel/Sentinel") {
  static readonly layer = Layer.effect(Sentinel, RedisSentinel.acquire({ sentinelPassword }))
}

/** Far longer than any of these attempts takes. */
const never = Duration.hours(1)

const layerWith = (redis: RedisOptions, connectTimeout: Duration.Input = never) =>
  Layer.unwrap(
    Sentinel.useSync(({ addresses, name }) =>
      RedisStoreLive.layer({ redis: { sentinels: [...addresses], name, sentinelPassword, ...redis }, connectTimeout })
    )
  )

const refused = (redis: RedisOptions, connectTimeout?: Duration.Input) =>
  Layer.build(layerWith(redis, connectTimeout)).pipe(Effect.scoped, Effect.flip)

/** How many connections a sentinel has, but for those to other sentinels and that of the test. */
const connections = ({ admin }: Replicated.Node) =>
  Effect.promise(async () =>
    String(await admin.client("LIST")).split("\n").filter((line) => line.includes(" name= ")).length - 1
  )

/** Waits until no sentinel has a connection from here. */
const noneLeft = Effect.gen(function*() {
  const { sentinels } = yield* Sentinel
  yield* Effect.forEach(sentinels, (sentinel) => Effect.repeat(connections(sentinel), { until: (n) => n === 0 }))
})

it.layer(Sentinel.layer, { excludeTestServices: true, timeout: "30 seconds" })("Sentinels", (it) => {
  it.effect("give the address of the primary, and have no connection after the layer is closed", () =>
    Effect.gen(function*() {
      const { primary, sentinels } = yield* Sentinel
      const { query, db } = yield* freshKey
      yield* Effect.gen(function*() {
        yield* driveTo({ db, query }, "Executing")
        // Each reports a failover.
        yield* Effect.forEach(
          sentinels,
          (sentinel) => Effect.repeat(connections(sentinel), { until: (n) => n === 1 })
        )
      }).pipe(Effect.provide(layerWith({})))
      assert.strictEqual(
        yield* Effect.promise(() => primary.admin.hget(`query-state:{${db}:${query}}`, "s")),
        "executing"
      )
      yield* noneLeft
    }))

  it.effect.each<[what: string, redis: RedisOptions, reason: string, says: string]>([
    ["a wrong password", { sentinelPassword: "open" }, "AccessDenied", "WRONGPASS"],
    ["no password", { sentinelPassword: "" }, "AccessDenied", "NOAUTH"],
    ["an unknown user", { sentinelUsername: "ada" }, "AccessDenied", "WRONGPASS"],
    ["an unknown name", { name: "nobody" }, "InvalidInput", "the sentinels know no primary of that name"],
    [
      "a name they do not know and are not asked twice about",
      { name: "nobody", updateSentinels: false },
      "InvalidInput",
      "the sentinels know no primary of that name"
    ]
  ])("refuse %s at once and leave no connection", ([, redis, _tag, says]) =>
    Effect.gen(function*() {
      const error = yield* refused(redis)
      assert.deepStrictEqual(errorFields(error), { _tag, operation: "connect", key: undefined })
      assert.include(error.message, says)
      assert.notInclude(error.message, sentinelPassword)
      yield* noneLeft
    }))

  it.effect("need not all be up: a frozen one is skipped", () =>
    Effect.gen(function*() {
      const { addresses, sentinels: [first] } = yield* Sentinel
      if (first === undefined) return
      yield* Replicated.frozen(first)
      const sentinels = [first.server, ...addresses].map(({ host, port }) => ({ host, port }))
      const { state } = yield* Effect.provide(
        Effect.flatMap(freshKey, (key) => driveTo(key, "Queued")),
        layerWith({ sentinels }, "10 seconds")
      )
      assert.strictEqual(state._tag, "Queued")
    }).pipe(Effect.scoped))

  it.effect("that are all frozen give an error after the timeout", () =>
    Effect.gen(function*() {
      const { sentinels } = yield* Sentinel
      yield* Effect.forEach(sentinels, Replicated.frozen)
      const connectTimeout = Duration.millis(400)
      const error = yield* Effect.timeout(refused({}, connectTimeout), Duration.times(connectTimeout, 10))
      assert.deepStrictEqual(errorFields(error), { _tag: "ConnectionLost", operation: "connect", key: undefined })
    }).pipe(Effect.scoped))

  it.effect("that do not run give an error", () =>
    Effect.gen(function*() {
      const error = yield* refused({ sentinels: [{ host: "127.0.0.1", port: 1 }, { host: "127.0.0.1", port: 2 }] })
      assert.deepStrictEqual(errorFields(error), { _tag: "ConnectionLost", operation: "connect", key: undefined })
    }))
})
