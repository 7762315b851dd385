import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Schedule } from "effect"
import { RedisStore, RedisStoreLive } from "effect-query-state"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

it.live("revoked credentials give a typed error and no storm of connections", () =>
  Effect.gen(function*() {
    const { host, port, url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    const setUser = (...rules: ReadonlyArray<string>) => Effect.promise(() => admin.acl("SETUSER", "app", ...rules))
    const connections = Effect.promise(async () =>
      Number(/total_connections_received:(\d+)/.exec(await admin.info("stats"))?.[1])
    )
    yield* setUser("on", ">s3cret", "+@all", "~*", "&*")
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* driveTo(key, "Queued")

      yield* setUser("resetpass", ">other")
      yield* Effect.promise(() => admin.call("CLIENT", "KILL", "USER", "app"))
      const before = yield* connections
      const calls = 10
      const errors = yield* Effect.replicateEffect(Effect.flip(store.compareAndSet(key, { event: "Cancel" })), calls)
      const reasons = new Set(errors.map(({ reason }) => reason._tag))
      assert.include([...reasons], "AccessDenied")
      // Between two attempts to connect, no server can deny access.
      assert.includeMembers(["AccessDenied", "ConnectionLost", "TimedOut"], [...reasons])
      assert.deepStrictEqual(errors.filter(({ message }) => message.includes("s3cret")), [])
      assert.isAtMost((yield* connections) - before, 2 * calls)

      yield* setUser("resetpass", ">s3cret")
      yield* Effect.retry(store.read(key), Schedule.spaced("50 millis"))
      assert.isTrue((yield* store.compareAndSet(yield* freshKey, { event: "Queue" })).changed)
    }).pipe(
      Effect.provide(
        RedisStoreLive.layer({ url: Redacted.make(`redis://app:s3cret@${host}:${port}`), commandTimeout: "300 millis" })
      )
    )
  }))
