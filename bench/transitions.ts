/** Transitions a second, compared with ioredis sending the very same commands, and what a claim adds to one. */
import { Duration, Effect } from "effect"
import { QueryKey, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import type { Row, Scale } from "./Row.ts"
import { connect, Server, StoreLayer } from "./Server.ts"
import { median, medianRatio } from "./statistics.ts"

const concurrency = 256
const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const
const claim = { holder: "bench:1", lease: Duration.seconds(30) }

type Send = (key: QueryKey.QueryKey) => Effect.Effect<unknown, unknown>

let count = 0
const freshKey = () => QueryKey.makeUnsafe({ db: "bench", query: `transition ${count++}` })

/** Milliseconds that many calls take, so many at a time. */
const measure = Effect.fnUntraced(function*(send: Send, calls: number) {
  const keys = Array.from({ length: calls }, freshKey)
  const begun = performance.now()
  yield* Effect.forEach(keys, send, { concurrency, discard: true })
  return performance.now() - begun
})

/** Measures two by turns, after both have been warmed up. */
const alternate = Effect.fnUntraced(function*(left: Send, right: Send, rounds: number, calls: number) {
  const pairs: Array<readonly [left: number, right: number]> = []
  for (let round = -2; round < rounds; round++) {
    const pair = [yield* measure(left, calls), yield* measure(right, calls)] as const
    if (round >= 0) pairs.push(pair)
  }
  return pairs
})

type Sent = readonly [sha: string, redisKey: string, operation: string, ...rest: ReadonlyArray<string | number>]

/** What the library sends for each step of a life, as far as it is always the same. */
const recordLife = Effect.fnUntraced(function*(url: string) {
  const client = yield* connect(url)
  const sent: Array<Sent> = []
  const evalsha = client.evalsha.bind(client)
  client.evalsha = ((sha: string, keys: number, redisKey: string, operation: string, ...rest: Array<string>) => {
    sent.push([sha, redisKey, operation, ...rest])
    return evalsha(sha, keys, redisKey, operation, ...rest)
  }) as Redis["evalsha"]
  const key = freshKey()
  yield* RedisStore.RedisStore.use((store) =>
    Effect.forEach(life, (event) => store.compareAndSet(key, { event }), { discard: true })
  ).pipe(Effect.provide(RedisStoreLive.layerClient(client)))
  return sent
}, Effect.scoped)

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const [rounds, calls] = isQuick ? [3, 500] : [15, 3_000]
  const { raw, url } = yield* Server
  const store = yield* RedisStore.RedisStore

  const throughLibrary: Send = (key) =>
    Effect.forEach(life, (event) => store.compareAndSet(key, { event }), { discard: true })

  const recorded = yield* recordLife(url)
  let operations = 1_000_000_000_000_000_000n
  const throughIoredis: Send = (key) =>
    Effect.promise(async () => {
      for (const [sha, , , ...rest] of recorded) {
        operations += 1n
        // oxlint-disable-next-line no-await-in-loop -- each step follows from the one before
        await raw.evalsha(sha, 1, `raw:{${key.query}}`, `${operations}`, ...rest)
      }
    })

  const lives = yield* alternate(throughIoredis, throughLibrary, rounds, calls)
  const aSecond = (times: ReadonlyArray<number>) =>
    Math.round(calls * life.length * 1000 / median(times)).toLocaleString("en")

  const queue = (options: object): Send => (key) => store.compareAndSet(key, { event: "Queue", ...options })
  const claims = yield* alternate(queue(claim), queue({}), rounds, calls * life.length)

  return [
    {
      what: "transitions a second, 256 at a time, against ioredis sending the same",
      measured: `${medianRatio(lives).toFixed(2)} x (${aSecond(lives.map(([, ours]) => ours))} against ${
        aSecond(lives.map(([theirs]) => theirs))
      })`,
      toReach: ""
    },
    {
      what: "cost of a transition that claims, with lease and holder, against one that does not",
      measured: `${medianRatio(claims).toFixed(2)} x`,
      toReach: ""
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
