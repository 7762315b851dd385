/** Errors of a server that cannot run a command, now or ever. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { type QueryError, type QueryKey, RedisStore, type RedisStoreError, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { lifecyclesDuring } from "../../support/lifecycles.ts"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, errorFields, freshKey } from "../../support/queries.ts"
import * as RawRecord from "../../support/RawRecord.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

type Store = RedisStore.RedisStore["Service"]

/** A server behind a proxy that can answer in its place. */
class World extends Context.Service<World, {
  readonly admin: Redis
  readonly proxy: Proxy.Proxy
}>()("test/faults/serverErrors/World") {
  static readonly layer = Layer.effect(
    World,
    Effect.gen(function*() {
      const server = yield* RedisServer.acquire()
      return { proxy: yield* Proxy.acquire(server), admin: yield* RedisAdmin.connect(server.url) }
    })
  )
}

const Stores = Layer.unwrap(World.useSync(({ proxy }) => RedisStoreLive.layer({ url: Redacted.make(proxy.url) })))
  .pipe(Layer.provideMerge(World.layer))

/** An operation for each script, on a query that is Queued under a claim. */
const operations: ReadonlyArray<
  readonly [
    operation: string,
    run: (
      store: Store,
      key: QueryKey.QueryKey,
      fence: number
    ) => Effect.Effect<unknown, RedisStoreError.RedisStoreError | QueryError.LeaseLost>
  ]
> = [
  ["Execute", (store, key, fence) => store.compareAndSet(key, { event: "Execute", fence })],
  ["Cancel", (store, key, fence) => store.compareAndSet(key, { event: "Cancel", fence })],
  ["read", (store, key) => store.read(key)],
  ["renew the lease on", (store, key, fence) => store.renew(key, fence, "1 minute")]
]

const transient = [
  "LOADING Redis is loading the dataset in memory",
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
  "READONLY You can't write against a read only replica.",
  "CLUSTERDOWN The cluster is down",
  "TRYAGAIN Multiple keys request during rehashing of slot",
  "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
  "NOREPLICAS Not enough good replicas to write.",
  "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
].map((line) => ({ code: line.split(" ")[0], line }))

const final = [
  ["OOM command not allowed when used memory > 'maxmemory'.", "OutOfMemory"],
  ["NOPERM this user has no permissions to run the 'evalsha' command", "AccessDenied"],
  ["NOAUTH Authentication required.", "AccessDenied"],
  ["WRONGPASS invalid username-password pair or user is disabled.", "AccessDenied"],
  ["ERR unknown command 'evalsha'", "UnexpectedReply"]
].map(([line = "", _tag]) => ({ code: line.split(" ")[0], line, _tag }))

it.layer(Stores, { excludeTestServices: true, timeout: "30 seconds" })("A server that answers", (it) => {
  it.effect.each(transient)(
    "$code is asked again, and every operation happens once",
    ({ line }) =>
      Effect.gen(function*() {
        const { admin, proxy } = yield* World
        const store = yield* RedisStore.RedisStore
        for (const [operation, run] of operations) {
          const key = yield* freshKey
          const { version } = yield* driveTo(key, "Queued", { holder: "worker 1", lease: "10 seconds" })
          const before = yield* ServerStats.scripts(admin)
          yield* proxy.answer(`-${line}`)
          yield* run(store, key, version)
          assert.strictEqual((yield* ServerStats.scripts(admin)) - before, 1, operation)
          const state = { Execute: "executing", Cancel: "cancelled" }[operation] ?? "queued"
          assert.strictEqual((yield* RawRecord.look(admin, key)).state, state, operation)
        }
      })
  )

  it.effect.each(final)(
    "$code is not asked again, and every operation fails as $_tag",
    ({ _tag, line }) =>
      Effect.gen(function*() {
        const { admin, proxy } = yield* World
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version } = yield* driveTo(key, "Queued", { holder: "worker 1", lease: "10 seconds" })
        const before = { raw: yield* RawRecord.look(admin, key), scripts: yield* ServerStats.scripts(admin) }
        for (const [operation, run] of operations) {
          yield* proxy.answer(`-${line}`)
          const error = yield* Effect.flip(run(store, key, version))
          assert.deepStrictEqual(errorFields(error), { _tag, operation, key })
        }
        const after = { raw: yield* RawRecord.look(admin, key), scripts: yield* ServerStats.scripts(admin) }
        assert.deepStrictEqual(after, before)
      })
  )
})

/** Real states of a server in which it refuses commands. All its data stays. */
const refusals: ReadonlyArray<{
  readonly code: string
  readonly refuseForAWhile: (admin: Redis) => Promise<unknown>
}> = [
  {
    code: "LOADING",
    refuseForAWhile: (admin) => admin.call("DEBUG", "RELOAD")
  },
  {
    code: "MASTERDOWN",
    refuseForAWhile: async (admin) => {
      await admin.config("SET", "replica-serve-stale-data", "no")
      // Were it read-only, it would answer READONLY. Nothing is there to replicate from.
      await admin.config("SET", "replica-read-only", "no")
      await admin.replicaof("127.0.0.1", 1)
      await new Promise((resolve) => setTimeout(resolve, 200))
      await admin.replicaof("NO", "ONE")
    }
  }
]

it.live.each(refusals)(
  "a server that answers $code for a while under load delays transitions and loses none",
  ({ code, refuseForAWhile }) =>
    Effect.gen(function*() {
      // So many keys, each so many microseconds, that loading takes some tenths of a second.
      const { url } = yield* RedisServer.acquire({
        args: [
          "--enable-debug-command",
          "yes",
          "--key-load-delay",
          "100",
          "--loading-process-events-interval-bytes",
          "1024"
        ]
      })
      const admin = yield* RedisAdmin.connect(url)
      yield* Effect.promise(() => admin.call("DEBUG", "POPULATE", 3_000))
      yield* Effect.gen(function*() {
        const refuse = Effect.promise(() => refuseForAWhile(admin))
        yield* lifecyclesDuring(Effect.delay(refuse, "50 millis"), { faults: 2, queries: 8 })
      }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
      const statistics = yield* Effect.promise(() => admin.info("errorstats"))
      assert.match(statistics, new RegExp(`^errorstat_${code}:`, "m"))
    })
)
