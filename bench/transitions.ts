/** Transitions a second, compared with ioredis sending the very same commands, and what a claim adds to one. */
import { Duration, Effect, Tracer } from "effect"
import { QueryFleet, type QueryKey, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { alternate, type Comparison, freshKeys, type Side } from "./alternate.ts"
import * as Reference from "./reference.ts"
import type { Row, Scale } from "./Row.ts"
import { connect, Server, StoreLayer } from "./Server.ts"
import { count, show, spread } from "./statistics.ts"

const many = 256
const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const
const claim = { holder: "bench:1", lease: Duration.seconds(30) }

type Sent = readonly [sha: string, redisKey: string, operation: string, ...rest: ReadonlyArray<string | number>]

/** What the library sends for each transition of a life, without the parts that change. */
const recordLife = Effect.fnUntraced(function*(url: string) {
  const client = yield* connect(url)
  const sent: Array<Sent> = []
  const evalsha = client.evalsha.bind(client)
  client.evalsha = ((sha: string, keys: number, redisKey: string, operation: string, ...rest: Array<string>) => {
    sent.push([sha, redisKey, operation, ...rest])
    return evalsha(sha, keys, redisKey, operation, ...rest)
  }) as Redis["evalsha"]
  const [key] = freshKeys(1)
  if (key === undefined) return sent
  yield* RedisStore.RedisStore.use((store) =>
    Effect.forEach(life, (event) => store.compareAndSet(key, { event }), { discard: true })
  ).pipe(Effect.provide(RedisStoreLive.layerClient(client)))
  return sent
}, Effect.scoped)

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const { raw, url } = yield* Server
  const store = yield* RedisStore.RedisStore
  const fleet = yield* QueryFleet.make
  const rounds = isQuick ? 3 : 15
  const sized = (queries: number) => isQuick ? Math.ceil(queries / 10) : queries

  const recorded = yield* recordLife(url)
  let operations = 1_000_000_000_000_000_000n
  const operation = () => `${operations += 1n}`
  const each = <E>(
    concurrency: number,
    send: (key: QueryKey.QueryKey) => Effect.Effect<unknown, E>
  ): Side<E, never> => ({
    run: (keys) => Effect.forEach(keys, send, { concurrency, discard: true })
  })
  const oneLife = (key: QueryKey.QueryKey) =>
    Effect.forEach(life, (event) => store.compareAndSet(key, { event }), { discard: true })
  const rawLife = (key: QueryKey.QueryKey) =>
    Effect.promise(async () => {
      for (const [sha, , , ...rest] of recorded) {
        // oxlint-disable-next-line no-await-in-loop -- each transition follows the one before
        await raw.evalsha(sha, 1, `raw:{${key.query}}`, operation(), ...rest)
      }
    })

  // One span around all, sampled or not, and one that the library makes for each transition. Nothing exports them.
  const tracer = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })
  const triggered = (key: QueryKey.QueryKey) =>
    Effect.flatMap(
      QueryStateMachine.make(key),
      (query) => Effect.forEach(life, (event) => query.trigger(event), { discard: true })
    ).pipe(Effect.provideService(RedisStore.RedisStore, store))
  const untraced = each(many, triggered)
  const traced = (sampled: boolean): typeof untraced => ({
    run: (keys) =>
      untraced.run(keys).pipe(
        Effect.withSpan("lives", { sampled }),
        Effect.provideService(Tracer.Tracer, tracer)
      )
  })

  const lives = { rounds, queries: sized(3_000), transitions: life.length }
  const atOnce = yield* alternate(each(many, oneLife), each(many, rawLife), lives)
  const notSampled = yield* alternate(traced(false), untraced, lives)
  const sampled = yield* alternate(traced(true), untraced, lives)
  const oneByOne = yield* alternate(each(1, oneLife), each(1, rawLife), {
    rounds,
    queries: sized(300),
    transitions: life.length
  })

  const [queue] = recorded
  const pipelined: Side<never, never> = {
    run: (keys) =>
      Effect.promise(() => {
        const pipeline = raw.pipeline()
        const [sha = "", , , ...rest] = queue ?? []
        for (const key of keys) pipeline.evalsha(sha, 1, `raw:{${key.query}}`, operation(), ...rest)
        return pipeline.exec()
      })
  }
  const fleetWide = yield* alternate({ run: (keys) => fleet.triggerMany("Queue", keys) }, pipelined, {
    rounds,
    queries: sized(10_000),
    transitions: 1
  })

  const toCompleted = ["Queue", "Execute", "Finish"] as const
  const wholeLife = yield* alternate(
    each(many, (key) => Effect.forEach(toCompleted, (event) => store.compareAndSet(key, { event }), { discard: true })),
    each(many, (key) => Effect.promise(() => Reference.live(raw, key))),
    { rounds, queries: sized(3_000), transitions: 1 }
  )

  const queued = (options: object) => each(many, (key) => store.compareAndSet(key, { event: "Queue", ...options }))
  const claims = yield* alternate(queued(claim), queued({}), { rounds, queries: sized(10_000), transitions: 1 })

  const row = (name: string, what: string, comparison: Comparison, atLeast?: number): Row => {
    const { high, low, ours, ratio, theirs } = comparison
    return {
      name,
      figures: { ratio, low, high, ours, theirs },
      what,
      measured: `${show(ratio)} (${spread(comparison)}; ${count(ours)} against ${count(theirs)})`,
      toReach: atLeast === undefined ? "" : `${atLeast} x or more`,
      isReached: atLeast === undefined ? undefined : ratio >= atLeast
    }
  }
  return [
    row(
      "transitions",
      `transitions a second, ${many} at a time, against ioredis sending the same scripts`,
      atOnce,
      0.85
    ),
    row("spanNotSampled", "the same with spans that are not sampled, against none", notSampled, 0.95),
    row("spanSampled", "the same with spans that are sampled, against none", sampled, 0.5),
    row("sequential", "transitions a second, one by one, against ioredis sending the same scripts", oneByOne, 0.9),
    row("triggerMany", "`triggerMany` of 10,000 queries, against a pipeline of ioredis", fleetWide, 1),
    row("life", "whole lives of new queries a second, against FlowMachine's protocol", wholeLife, 3.5),
    row("claim", "transitions a second that claim, with lease and holder, against those that do not", claims)
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
