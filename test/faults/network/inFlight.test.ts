import { assert, it } from "@effect/vitest"
import { Array as Arr, Effect, Layer, Redacted, Result } from "effect"
import { QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RedisServer from "../../support/RedisServer.ts"

/** Counts steps sent while a renewal of the same claim was in flight. */
class Overlaps {
  count = 0
  private readonly underWay = new Map<string, number>()
  private readonly ends = new Map<string, () => void>()

  /** Work that ends as soon as a renewal of its claim is on its way. */
  readonly workOn = (query: string): Effect.Effect<void> =>
    Effect.callback((resume) => {
      this.ends.set(query, () => resume(Effect.void))
    })

  readonly watch = (store: RedisStore.RedisStore["Service"]): RedisStore.RedisStore["Service"] => {
    const add = (query: string, by: number) => this.underWay.set(query, (this.underWay.get(query) ?? 0) + by)
    const compareAndSet = (...[key, command]: Parameters<typeof store.compareAndSet>) =>
      Effect.suspend(() => {
        if ((this.underWay.get(key.query) ?? 0) > 0) this.count += 1
        return store.compareAndSet(key, command)
      })
    return RedisStore.RedisStore.of({
      ...store,
      compareAndSet: compareAndSet as RedisStore.RedisStore["Service"]["compareAndSet"],
      renew: (key, fence, lease) =>
        Effect.suspend(() => {
          add(key.query, 1)
          this.ends.get(key.query)?.()
          return Effect.ensuring(store.renew(key, fence, lease), Effect.sync(() => add(key.query, -1)))
        })
    })
  }
}

const works = 200

it.live("work that ends while a renewal is in flight is recorded, and never gets LeaseLost", () =>
  Effect.gen(function*() {
    const proxy = yield* Proxy.acquire(yield* RedisServer.acquire())
    const overlaps = new Overlaps()
    const StoreLayer = Layer.effect(RedisStore.RedisStore, Effect.map(RedisStore.RedisStore, overlaps.watch)).pipe(
      Layer.provide(RedisStoreLive.layer({ url: Redacted.make(proxy.url) }))
    )
    yield* Effect.gen(function*() {
      const keys = yield* Effect.replicateEffect(freshKey, works)
      yield* Effect.forEach(keys, (key) => driveTo(key, "Queued"), { concurrency: "unbounded" })
      // Every command is on its way for so long, there and back.
      yield* proxy.delay("20 millis")
      const ends = yield* Effect.forEach(keys, (key) =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(key)
          return yield* Effect.result(query.withExecution(() => overlaps.workOn(key.query), { lease: "10 seconds" }))
        }), { concurrency: "unbounded" })
      assert.deepStrictEqual(Arr.getFailures(ends.map(Result.mapError(({ _tag }) => _tag))), [])
      const store = yield* RedisStore.RedisStore
      const states = Arr.getSuccesses(yield* store.readMany(keys)).map(({ state }) => state._tag)
      assert.deepStrictEqual(states, keys.map(() => "Completed" as const))
      assert.isAbove(overlaps.count, 0)
    }).pipe(Effect.provide(StoreLayer))
  }))
