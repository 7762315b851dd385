/**
 * A process with one build of the library, which does what `compare` orders.
 *
 * Builds differ in what they offer, so this program keeps to what all of them have; `commandOf` bridges the rest.
 */
import { Effect, Redacted } from "effect"
import { QueryKey, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"

export interface Order {
  readonly what: "complete" | "transitions" | "wait"
  /** Name of the query, or what the names of the queries begin with. */
  readonly name: string
  readonly queries?: number
}

/** What the transitions of a round took: time, and microseconds of processor. */
export interface Report {
  readonly transitions: number
  readonly millis: number
  readonly processor: number
}

const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const
const concurrency = 256

const commandOf = (event: (typeof life)[number]) => ({ event })

const [url = ""] = process.argv.slice(2)

const keyOf = (name: string) => QueryKey.makeUnsafe({ db: "bench", query: name })

const transitions = Effect.fnUntraced(function*({ name, queries = 0 }: Order) {
  const store = yield* RedisStore.RedisStore
  const keys = Array.from({ length: queries }, (_, index) => keyOf(`${name}-${index}`))
  const processorBefore = process.cpuUsage()
  const begun = performance.now()
  yield* Effect.forEach(
    keys,
    (key) => Effect.forEach(life, (event) => store.compareAndSet(key, commandOf(event)), { discard: true }),
    { concurrency, discard: true }
  )
  const millis = performance.now() - begun
  const { system, user } = process.cpuUsage(processorBefore)
  return JSON.stringify({ transitions: queries * life.length, millis, processor: user + system } satisfies Report)
})

/** Begins a wait, and says so; the answer is when it ended, by the clock that all processes of a machine share. */
const wait = Effect.fnUntraced(function*({ name }: Order) {
  const query = yield* QueryStateMachine.make(keyOf(name))
  yield* query.enqueue
  const woken = Effect.map(query.waitUntilComplete(), () => `${process.hrtime.bigint()}`)
  const [, at] = yield* Effect.all([Effect.sync(() => process.send?.("waiting")), woken], { concurrency: "unbounded" })
  return at
})

const complete = Effect.fnUntraced(function*({ name }: Order) {
  const query = yield* QueryStateMachine.make(keyOf(name))
  const begun = `${process.hrtime.bigint()}`
  yield* query.cancel
  return begun
})

const serve = Effect.gen(function*() {
  const run = Effect.runPromiseWith(yield* Effect.context<RedisStore.RedisStore>())
  process.on("message", (order: Order) => {
    void run({ complete, transitions, wait }[order.what](order)).then((answer) => process.send?.(answer))
  })
  process.send?.("ready")
  yield* Effect.callback<void>((resume) => {
    process.once("disconnect", () => resume(Effect.void))
  })
})

await serve.pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })), Effect.runPromise)
