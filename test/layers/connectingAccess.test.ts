import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted, Result, Schedule } from "effect"
import { QueryKey, QueryState, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import * as Notifications from "../support/Notifications.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

/** A server that requires a password, except from the user `guest`, who has no permissions. */
class Server extends Context.Service<Server, {
  readonly admin: Redis
  readonly layerOf: (credentials: string) => ReturnType<typeof RedisStoreLive.layer>
}>()("test/connectingAccess/Server") {
  static readonly layer = Layer.effect(
    Server,
    Effect.gen(function*() {
      const { host, port } = yield* RedisServer.acquire({ args: ["--requirepass", "sesame"] })
      const urlOf = (credentials: string) => `redis://${credentials}${host}:${port}`
      return {
        admin: yield* RedisAdmin.connect(urlOf(":sesame@")),
        layerOf: (credentials) => RedisStoreLive.layer({ url: Redacted.make(urlOf(credentials)) })
      }
    })
  )
}

/** Makes a user with the given ACL rules, and provides a store with that user's access. */
const asUserWith = (...rules: ReadonlyArray<string>) =>
  Layer.unwrap(Effect.gen(function*() {
    const { admin, layerOf } = yield* Server
    const { query } = yield* freshKey
    const user = `user-${query}`
    yield* Effect.promise(() => admin.acl("SETUSER", user, "on", ">secret", ...rules))
    return layerOf(`${user}:secret@`)
  }))

const asAdmin = Layer.unwrap(Server.useSync(({ layerOf }) => layerOf(":sesame@")))

const everything = ["+@all", "~*", "&*"]

it.layer(Server.layer, { excludeTestServices: true, timeout: "30 seconds" })("A server with a password", (it) => {
  it.effect.each<[what: string, credentials: string]>([
    ["no credentials", ""],
    ["a wrong password", ":open@"],
    ["an unknown user", "ada:sesame@"]
  ])("denies %s access and is asked once", ([, credentials]) =>
    Effect.gen(function*() {
      const { admin, layerOf } = yield* Server
      const connections = Effect.promise(async () =>
        Number(/total_connections_received:(\d+)/.exec(await admin.info("stats"))?.[1])
      )
      const before = yield* connections
      const error = yield* Layer.build(layerOf(credentials)).pipe(Effect.scoped, Effect.flip)
      assert.deepStrictEqual(errorFields(error), { _tag: "AccessDenied", operation: "connect", key: undefined })
      assert.include(error.message, "Check the user, the password and its permissions")
      assert.strictEqual(yield* connections, before + 1)
    }))

  it.effect("accepts the right password, percent-encoded", () =>
    Effect.gen(function*() {
      const { admin, layerOf } = yield* Server
      const password = "p@ss:w/rd %é"
      yield* Effect.promise(() => admin.acl("SETUSER", "a:da", "on", `>${password}`, ...everything))
      const { state } = yield* driveTo(yield* freshKey, "Executing").pipe(
        Effect.provide(layerOf(`${encodeURIComponent("a:da")}:${encodeURIComponent(password)}@`))
      )
      assert.deepStrictEqual(state, QueryState.make("Executing"))
    }))

  it.effect("denies the layer to a user without permission for scripts", () =>
    Effect.gen(function*() {
      const error = yield* Layer.build(asUserWith(...everything, "-@scripting")).pipe(Effect.scoped, Effect.flip)
      assert.deepStrictEqual(errorFields(error), {
        _tag: "AccessDenied",
        operation: "prepare the store",
        key: undefined
      })
    }))

  it.effect("denies a user only the queries of others", () =>
    Effect.gen(function*() {
      const own = QueryKey.makeUnsafe({ db: "own", query: "totals" })
      const other = QueryKey.makeUnsafe({ db: "other", query: "totals" })
      yield* Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const answers = yield* store.compareAndSetMany([[other, { event: "Queue" }], [own, { event: "Queue" }]])
        const record = yield* store.read(own)
        assert.deepStrictEqual(answers.map(Result.mapError(errorFields)), [
          Result.fail({ _tag: "AccessDenied", operation: "Queue", key: other }),
          Result.succeed({ record, changed: true })
        ])
        assert.deepStrictEqual((yield* store.readMany([own, other])).map(Result.mapError(errorFields)), [
          Result.succeed(record),
          Result.fail({ _tag: "AccessDenied", operation: "read", key: other })
        ])
        const renewal = yield* Effect.flip(store.renew(other, 1, "1 minute"))
        assert.deepStrictEqual(errorFields(renewal), {
          _tag: "AccessDenied",
          operation: "renew the lease on",
          key: other
        })
      }).pipe(Effect.provide(asUserWith("+@all", "~query-state:{own:*", "&*")))
    }))

  it.effect("denies a read-only user transitions, and allows reads", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const record = yield* Effect.provide(driveTo(key, "Executing"), asAdmin)
      yield* Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const error = yield* Effect.flip(store.compareAndSet(key, { event: "Finish" }))
        assert.deepStrictEqual(errorFields(error), { _tag: "AccessDenied", operation: "Finish", key })
        assert.deepStrictEqual(yield* store.read(key), record)
      }).pipe(Effect.provide(asUserWith(...everything, "-@write")))
    }))

  it.effect("denies a user the notifications of others at once, and their waits poll", () =>
    Effect.gen(function*() {
      const own = QueryKey.makeUnsafe({ db: "own channels", query: "totals" })
      const other = QueryKey.makeUnsafe({ db: "other channels", query: "totals" })
      yield* Effect.gen(function*() {
        const [denied, granted] = yield* Effect.all(
          [Effect.flip(Notifications.ignored(other)), Effect.isSuccess(Notifications.ignored(own))],
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(errorFields(denied), { _tag: "AccessDenied", operation: "subscribe to", key: other })
        assert.isTrue(granted)

        const query = yield* QueryStateMachine.make(other)
        yield* query.enqueue
        const waiter = yield* Effect.forkChild(
          query.waitUntilComplete({ schedule: Schedule.spaced("10 millis") }),
          { startImmediately: true }
        )
        yield* query.cancel
        assert.strictEqual((yield* Fiber.join(waiter)).state._tag, "Cancelled")
      }).pipe(
        Effect.scoped,
        Effect.provide(asUserWith("+@all", "~*", "&query-state:{own%20channels:*"))
      )
    }))
})
