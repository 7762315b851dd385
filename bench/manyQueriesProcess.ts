/** A process with a waiter a query, which tells what they cost it and how they fare: see `manyQueries`. */
import { Effect, Fiber, Layer, Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { Server } from "./Server.ts"
import * as Waiters from "./waiters.ts"

export interface Report {
  readonly bytesEach: number
  readonly subscribers: number
  readonly woken: number
  readonly subscribedAfterMillis: number
  readonly wokenAfterMillis: number
}

const [url = "", count = ""] = process.argv.slice(2)

// The first collection moves what is new, and the later ones let go of what that one still held.
const heapUsed = Effect.sync(() => {
  for (let round = 0; round < 4; round++) globalThis.gc?.()
  return process.memoryUsage().heapUsed
})

const millis = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const begun = performance.now()
    const value = yield* effect
    return [value, Math.round(performance.now() - begun)] as const
  })

const report = Effect.gen(function*() {
  const server = yield* Server
  const keys = Waiters.keys(Number(count))
  // What is compiled and kept once is no waiter's.
  const [first] = keys
  yield* Waiters.enqueue(keys, { lease: "1 hour" })
  yield* Fiber.interruptAll(yield* Waiters.begin(first === undefined ? [] : [first]))

  const before = yield* heapUsed
  const [fibers, subscribedAfterMillis] = yield* millis(Waiters.begin(keys))
  const bytesEach = ((yield* heapUsed) - before) / keys.length
  const subscribers = yield* server.subscribers
  const [woken, wokenAfterMillis] = yield* millis(
    Effect.andThen(Waiters.cancel(keys), Fiber.joinAll(fibers))
  )
  return { bytesEach, subscribers, woken: woken.length, subscribedAfterMillis, wokenAfterMillis } satisfies Report
})

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout: "1 minute" })

process.send?.(
  JSON.stringify(await Effect.runPromise(Effect.provide(report, Layer.merge(StoreLayer, Server.layerAt(url)))))
)
process.disconnect()
