/** What Redis answers where it does not do what it is asked to. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { QueryState, RedisStore, RedisStoreLive } from "effect-query-state"
import * as Proxy from "../support/Proxy.ts"
import { freshKey, told } from "../support/queries.ts"
import * as RedisServer from "../support/RedisServer.ts"

const passing = [
  "LOADING Redis is loading the dataset in memory",
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  "READONLY You can't write against a read only replica.",
  "CLUSTERDOWN The cluster is down",
  "TRYAGAIN Multiple keys request during rehashing of slot",
  "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
  "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
] as const

const lasting = [
  ["OutOfMemory", "OOM command not allowed when used memory > 'maxmemory'."],
  ["AccessDenied", "NOPERM this user has no permissions to run the 'evalsha' command"],
  ["AccessDenied", "NOAUTH Authentication required."],
  ["WrongType", "WRONGTYPE Operation against a key holding the wrong kind of value"],
  ["UnexpectedReply", "ERR something that nobody has heard of"]
] as const

const answering = <A, E>(error: string, test: Effect.Effect<A, E, RedisStore.RedisStore>) =>
  Effect.gen(function*() {
    const proxy = yield* Proxy.acquire(yield* RedisServer.acquire())
    return yield* Effect.provide(
      // The first command is to find the connection ready.
      Effect.andThen(RedisStore.RedisStore.use(() => proxy.answer(`-${error}\r\n`)), test),
      RedisStoreLive.layer({ url: Redacted.make(proxy.url) })
    )
  })

it.live.each(passing)("'%s' passes: the command is sent again, and carried out once", (error) =>
  answering(
    error,
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { changed, record } = yield* store.compareAndSet(key, { event: "Queue" })
      assert.isTrue(changed)
      assert.deepStrictEqual(record.state, QueryState.make("Queued"))
      assert.deepStrictEqual(yield* store.read(key), record)
    })
  ))

it.live.each(lasting)("%s at once, and nothing is changed: '%s'", ([tag, error]) =>
  answering(
    error,
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const refused = yield* Effect.flip(store.compareAndSet(key, { event: "Queue" }))
      assert.deepStrictEqual(told(refused), { _tag: tag, operation: "Queue", key })
      assert.deepStrictEqual((yield* store.read(key)).state, QueryState.known)
    })
  ))
