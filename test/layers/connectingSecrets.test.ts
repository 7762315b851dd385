import { assert, it } from "@effect/vitest"
import { Cause, Effect, Layer, Redacted, type Scope } from "effect"
import { type QueryError, RedisStore, type RedisStoreError, RedisStoreLive } from "effect-query-state"
import { inspect } from "node:util"
import * as FakeServers from "../support/FakeServers.ts"
import { noListener } from "../support/Notifications.ts"
import { freshKey, redisKeyOf } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

const secret = "s3cret"

/** Every way in which a failure may find its way into a log. */
const renderings = (cause: Cause.Cause<unknown>): ReadonlyArray<string> =>
  [cause, ...cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error : reason)].flatMap((what) => [
    String(what),
    JSON.stringify(what),
    inspect(what, { depth: Infinity, getters: true, showHidden: true })
  ]).concat(Cause.pretty(cause))

/** Expects an effect to fail with a typed error, and searches all of its texts for the secret. */
const keepsSecret = Effect.fnUntraced(function*<A, E extends QueryError.LeaseLost | RedisStoreError.RedisStoreError>(
  self: Effect.Effect<A, E>
) {
  const cause = yield* Effect.flip(Effect.sandbox(self))
  assert.isTrue(Cause.hasFails(cause), Cause.pretty(cause))
  assert.deepStrictEqual(renderings(cause).filter((text) => text.includes(secret)), [])
})

const connect = (url: string) =>
  Layer.build(RedisStoreLive.layer({ url: Redacted.make(url), connectTimeout: "250 millis" })).pipe(Effect.scoped)

it.live.each<[what: string, url: string]>([
  ["is no URL", `redis//${secret}:${secret}@localhost`],
  ["has no scheme", `${secret}:${secret}@localhost`],
  ["has another scheme", `http://${secret}:${secret}@localhost`],
  ["has an impossible port", `redis://${secret}:${secret}@localhost:65536`],
  ["names a database", `redis://localhost/${secret}`],
  ["is not percent-encoded", `redis://${secret}:${secret}%@localhost`],
  ["has a query", `redis://localhost?password=${secret}`]
])("a URL that %s is never shown", ([, url]) => keepsSecret(connect(url)))

it.live.each<[what: string, address: Effect.Effect<string, never, Scope.Scope>]>([
  ["is not there", FakeServers.nobody],
  ["never says a word", Effect.map(FakeServers.frozen, ({ address }) => address)],
  ["is not Redis", Effect.map(FakeServers.answering("HTTP/1.1 400 Bad Request\r\n\r\n"), ({ address }) => address)]
])(
  "no error shows credentials when a server %s",
  ([, server]) => Effect.flatMap(server, (address) => keepsSecret(connect(`redis://${secret}:${secret}@${address}`)))
)

it.live.each<[what: string, args: ReadonlyArray<string>]>([
  ["other passwords", ["--requirepass", "sesame"]],
  ["no command to present a password", ["--rename-command", "AUTH", "", "--rename-command", "HELLO", ""]]
])("no error shows credentials when a server has %s", ([, args]) =>
  Effect.flatMap(
    RedisServer.acquire({ args }),
    ({ host, port }) => keepsSecret(connect(`redis://${secret}:${secret}@${host}:${port}`))
  ))

it.live("no error of a connection shows its credentials", () =>
  Effect.gen(function*() {
    const { host, port, stop, url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.promise(() => admin.acl("SETUSER", secret, "on", `>${secret}`, "+@all", "~query-state:*", "&*"))
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* keepsSecret(store.renew(key, 1, "1 minute"))
      yield* keepsSecret(store.compareAndSet(key, { event: "Queue", lease: 0 }))

      yield* Effect.promise(() => admin.set(redisKeyOf(key), "no record"))
      yield* keepsSecret(store.compareAndSet(key, { event: "Queue" }))

      yield* Effect.promise(() => admin.client("PAUSE", 60_000))
      yield* keepsSecret(store.read(key))
      yield* stop
      yield* keepsSecret(store.read(key))
      yield* keepsSecret(Effect.scoped(store.changes(key, noListener)))
    }).pipe(Effect.provide(RedisStoreLive.layer({
      url: Redacted.make(`redis://${secret}:${secret}@${host}:${port}`),
      commandTimeout: "250 millis"
    })))
  }))

it.live("no error on options of ioredis shows their credentials", () =>
  keepsSecret(
    Layer.build(RedisStoreLive.layer({ redis: { password: secret, sentinels: [], name: "primary" } })).pipe(
      Effect.scoped
    )
  ))
