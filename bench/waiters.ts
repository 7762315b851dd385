/** Many waits at once. */
import { Effect } from "effect"
import { QueryKey, QueryStateMachine, RedisStore } from "effect-query-state"
import { Server } from "./Server.ts"

export const keys = (count: number): ReadonlyArray<QueryKey.QueryKey> =>
  Array.from({ length: count }, (_, index) => QueryKey.makeUnsafe({ db: "bench", query: `query ${index}` }))

/** Queues queries, optionally under a lease longer than any row takes. */
export const enqueue = (keys: ReadonlyArray<QueryKey.QueryKey>, options?: { readonly lease: "1 hour" }) =>
  RedisStore.RedisStore.use((store) =>
    store.compareAndSetMany(keys.map((key) => [key, { event: "Queue", ...options }]))
  )

export const cancel = (keys: ReadonlyArray<QueryKey.QueryKey>) =>
  RedisStore.RedisStore.use((store) => store.compareAndSetMany(keys.map((key) => [key, { event: "Cancel" }])))

const wait = (key: QueryKey.QueryKey) =>
  Effect.flatMap(QueryStateMachine.make(key), (query) => query.waitUntilComplete())

/** Begins a wait for each key, and returns once the server has all subscriptions and receives no more commands. */
export const begin = Effect.fnUntraced(function*(keys: ReadonlyArray<QueryKey.QueryKey>, onWoken = () => {}) {
  const server = yield* Server
  const woken = Effect.sync(onWoken)
  const fibers = yield* Effect.forEach(keys, (key) => Effect.forkChild(Effect.andThen(wait(key), woken)))
  const distinct = new Set(keys.map((key) => key.query)).size
  yield* Effect.repeat(Effect.delay(server.channels, "20 millis"), { until: (channels) => channels === distinct })
  yield* quiet
  return fibers
})

/** Returns once the server has received no command for a while. */
export const quiet = Effect.gen(function*() {
  const server = yield* Server
  let before = yield* server.commands
  yield* Effect.repeat(
    Effect.map(Effect.delay(server.commands, "300 millis"), (now) => {
      const isQuiet = now === before
      before = now
      return isQuiet
    }),
    { until: (isQuiet) => isQuiet }
  )
})
