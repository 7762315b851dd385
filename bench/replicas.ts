/** What it costs to wait for replication after each transition, and how distance adds to that. */
import { Context, Effect, Layer, Redacted } from "effect"
import { QueryKey, RedisStore, RedisStoreLive } from "effect-query-state"
import * as Proxy from "../test/support/Proxy.ts"
import * as Replicated from "../test/support/Replicated.ts"
import type { Row, Scale } from "./Row.ts"
import { count as shown, median, ratioOf, show, spread } from "./statistics.ts"

const concurrency = 256
const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const

let count = 0

/** Transitions a second, 256 at a time. */
const measure = Effect.fnUntraced(function*(store: RedisStore.RedisStore["Service"], calls: number) {
  const keys = Array.from({ length: calls }, () => QueryKey.makeUnsafe({ db: "bench", query: `replicated ${count++}` }))
  const live = (key: QueryKey.QueryKey) =>
    Effect.forEach(life, (event) => store.compareAndSet(key, { event }), { discard: true })
  const begun = performance.now()
  yield* Effect.forEach(keys, live, { concurrency, discard: true })
  return calls * life.length * 1000 / (performance.now() - begun)
})

const perSecond = (rates: ReadonlyArray<number>): string => shown(median([...rates]))

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const [rounds, calls] = isQuick ? [3, 500] : [15, 3_000]
  const { primary, replicas: [replica = primary] } = yield* Replicated.acquire()
  const storeWith = Effect.fnUntraced(function*(replicas: RedisStoreLive.ReplicaOptions | undefined) {
    const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(primary.server.url), replicas })
    return Context.get(yield* Layer.build(StoreLayer), RedisStore.RedisStore)
  })
  const off = yield* storeWith(undefined)
  const on = yield* storeWith({ count: 1 })

  const pairs: Array<readonly [on: number, off: number]> = []
  for (let round = -2; round < rounds; round++) {
    const pair = [yield* measure(on, calls), yield* measure(off, calls)] as const
    if (round >= 0) pairs.push(pair)
  }

  const proxy = yield* Proxy.acquire(primary.server)
  yield* Replicated.follow(replica, proxy)
  yield* proxy.delay("1 millis")
  const farOff = yield* Effect.replicateEffect(measure(on, calls), rounds)

  const comparison = ratioOf(pairs)
  return [
    {
      name: "replicas",
      figures: { ...comparison },
      what: "transitions a second, 256 at a time, waiting for a replica, against not waiting",
      measured: `${show(comparison.ratio)} (${spread(comparison)}; ${perSecond(pairs.map(([on]) => on))} against ${
        perSecond(pairs.map(([, off]) => off))
      })`,
      toReach: ""
    },
    {
      name: "replicaFarOff",
      figures: { transitionsASecond: median(farOff) },
      what: "the same with a replica that is 2 ms away, there and back",
      measured: perSecond(farOff),
      toReach: ""
    }
  ] satisfies ReadonlyArray<Row>
})
