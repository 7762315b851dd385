/** `commandTimeout` bounds every operation, whatever the server and the network do. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Schedule, type Scope, Stream } from "effect"
import { QueryKey, RedisStore, RedisStoreLive } from "effect-query-state"
import * as Proxy from "../../support/Proxy.ts"
import { freshKey } from "../../support/queries.ts"
import * as RedisServer from "../../support/RedisServer.ts"

const commandTimeout = 2000

interface World {
  readonly proxy: Proxy.Proxy
  readonly server: RedisServer.RedisServer
}

interface Trouble {
  readonly how: string
  readonly begin: (world: World) => Effect.Effect<unknown, never, Scope.Scope>
}

/** What leaves this process with nothing to do but wait. */
const silences: ReadonlyArray<Trouble> = [
  { how: "the server is gone", begin: ({ server }) => server.stop },
  { how: "connections are silent", begin: ({ proxy }) => proxy.halfOpen("all") },
  { how: "answers stay on the way", begin: ({ proxy }) => proxy.pause("all") },
  { how: "nothing comes through", begin: ({ proxy }) => proxy.blackHole },
  { how: "everything is late", begin: ({ proxy }) => proxy.delay("1500 millis") }
]

/** What keeps this process busy. */
const noises: ReadonlyArray<Trouble> = [
  {
    how: "connections break, again and again",
    begin: ({ proxy }) => Effect.forkScoped(Effect.repeat(proxy.cut("all"), Schedule.spaced("15 millis")))
  },
  {
    how: "the server loads its data",
    begin: ({ proxy }) =>
      Effect.andThen(
        Effect.forkScoped(
          Effect.repeat(proxy.answer("-LOADING Redis is loading the dataset in memory"), Schedule.spaced("1 millis"))
        ),
        Effect.yieldNow
      )
  },
  {
    how: "the server loads its data for a while, and is silent then",
    begin: ({ proxy }) =>
      Effect.gen(function*() {
        const loading = yield* Effect.forkScoped(
          Effect.repeat(proxy.answer("-LOADING Redis is loading the dataset in memory"), Schedule.spaced("1 millis"))
        )
        yield* Effect.forkScoped(Effect.delay(
          Effect.andThen(proxy.halfOpen("all"), Effect.sync(() => loading.interruptUnsafe())),
          commandTimeout * 0.9
        ))
      })
  }
]

const endsInTime = ({ begin }: Trouble) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire()
    const proxy = yield* Proxy.acquire(server)
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const [key, waited] = yield* Effect.all([freshKey, freshKey])
      const deaf = { onRecord: () => {}, onGap: () => {} }
      yield* Effect.scoped(store.changes(waited, deaf))
      const { record: { version } } = yield* store.compareAndSet(key, { event: "Queue", lease: "1 hour" })
      const operations: Record<string, Effect.Effect<unknown, unknown, Scope.Scope>> = {
        move: store.compareAndSet(key, { event: "Cancel" }),
        read: store.read(key),
        // Reads that come while one is under way wait for the one after it.
        readAgain: Effect.delay(store.read(key), commandTimeout / 2),
        renew: store.renew(key, version, "1 hour"),
        history: store.history(key),
        changes: store.changes(key, deaf),
        keys: Stream.runDrain(store.keys(QueryKey.DbId.make("nobody"))),
        databases: Stream.runDrain(store.databases)
      }
      yield* begin({ proxy, server })
      const times = yield* Effect.forEach(
        Object.entries(operations),
        ([name, operation]) =>
          Effect.gen(function*() {
            const startedAt = performance.now()
            yield* Effect.result(operation)
            const delay = name === "readAgain" ? commandTimeout / 2 : 0
            return { name, took: performance.now() - startedAt - delay }
          }),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(times.filter(({ took }) => took > commandTimeout * 1.1), [])
    }).pipe(
      Effect.scoped,
      Effect.provide(RedisStoreLive.layer({ url: Redacted.make(proxy.url), commandTimeout }))
    )
  })

const name = "every operation ends within commandTimeout and a tenth, where $how"

// Those that only wait do so at the same time. One that is busy would make the others late.
it.live.each(silences)(name, endsInTime, { concurrent: true })
it.live.each(noises)(name, endsInTime)
