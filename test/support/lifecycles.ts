/** Load for a server that goes through a fault: lifecycles in many fibers, each transition checked. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Ref } from "effect"
import { RedisStore } from "effect-query-state"
import { freshKey, life } from "./queries.ts"

/**
 * Lets a fault happen a number of times while queries go through their lifecycles, each until it has finished one after
 * the last fault. Every transition must happen and be read.
 */
export const lifecyclesDuring = <E, R>(
  fault: Effect.Effect<unknown, E, R>,
  options: { readonly faults: number; readonly queries: number }
) =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const faults = yield* Ref.make(0)
    const lifecycles = Effect.gen(function*() {
      const key = yield* freshKey
      const lifecycle = Effect.gen(function*() {
        for (const event of life) {
          const { changed, record } = yield* store.compareAndSet(key, { event })
          assert.deepStrictEqual([changed, record], [true, yield* store.read(key)])
        }
        return yield* Ref.get(faults)
      })
      yield* Effect.repeat(lifecycle, { until: (count) => count === options.faults })
    })
    const fiber = yield* Effect.forkChild(
      Effect.replicateEffect(lifecycles, options.queries, { concurrency: "unbounded" })
    )
    yield* Effect.replicateEffect(Effect.andThen(fault, Ref.update(faults, (count) => count + 1)), options.faults)
    yield* Fiber.join(fiber)
  })
