/** Transitions a second, compared with ioredis sending the very same commands, and what a claim adds to one. */
import { Duration, Effect, Tracer } from "effect"
import { QueryFleet, type QueryKey, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { alternate, freshKeys, type Side } from "./alternate.ts"
import * as Reference from "./reference.ts"
import type { Row, Scale } from "./Row.ts"
import { connect, Server, StoreLayer } from "./Server.ts"
import { count, show } from "./statistics.ts"

const many = 256
const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const
const claim = { holder: "bench:1", lease: Duration.seconds(30) }

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
        // oxlint-disable-next-line no-await-in-loop -- each step follows from the one before
        await raw.evalsha(sha, 1, `raw:{${key.query}}`, operation(), ...rest)
      }
    })

  // Each step in a span, as a program has it that traces, and counted, as all are; what exports them is not measured.
  const tracer = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })
  const tracedLife = (key: QueryKey.QueryKey) =>
    Effect.flatMap(
      QueryStateMachine.make(key),
      (query) => Effect.forEach(life, (event) => query.trigger(event), { discard: true })
    ).pipe(
      Effect.withSpan("life"),
      Effect.provideService(RedisStore.RedisStore, store),
      Effect.provideService(Tracer.Tracer, tracer)
    )

  const atOnce = yield* alternate(each(many, oneLife), each(many, rawLife), {
    rounds,
    queries: sized(3_000),
    steps: life.length
  })
  const traced = yield* alternate(each(many, tracedLife), each(many, rawLife), {
    rounds,
    queries: sized(3_000),
    steps: life.length
  })
  const oneByOne = yield* alternate(each(1, oneLife), each(1, rawLife), {
    rounds,
    queries: sized(300),
    steps: life.length
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
    steps: 1
  })

  const toCompleted = ["Queue", "Execute", "Finish"] as const
  const wholeLife = yield* alternate(
    each(many, (key) => Effect.forEach(toCompleted, (event) => store.compareAndSet(key, { event }), { discard: true })),
    each(many, (key) => Effect.promise(() => Reference.live(raw, key))),
    { rounds, queries: sized(3_000), steps: 1 }
  )

  const queued = (options: object) => each(many, (key) => store.compareAndSet(key, { event: "Queue", ...options }))
  const claims = yield* alternate(queued({}), queued(claim), { rounds, queries: sized(10_000), steps: 1 })

  const row = (
    name: string,
    what: string,
    { high, low, ours, ratio, theirs }: Effect.Success<ReturnType<typeof alternate>>,
    atLeast: number
  ): Row => ({
    name,
    figures: { ratio, low, high, ours, theirs },
    what,
    measured: `${show(ratio)} (${count(ours)} against ${count(theirs)}; ${low.toFixed(2)} to ${high.toFixed(2)})`,
    toReach: `at least ${atLeast} x`,
    met: ratio >= atLeast
  })
  return [
    row("transitions", `transitions a second, ${many} at a time, against ioredis sending the same`, atOnce, 0.9),
    row("traced", "the same with tracing and metrics on: each transition in a span", traced, 0.7),
    row("sequential", "transitions a second, one by one, against ioredis sending the same", oneByOne, 0.9),
    row("triggerMany", "triggerMany of 10,000 queries, against a pipeline of ioredis with the same", fleetWide, 0.9),
    row("life", "lives a second, known to completed, new queries, against the reference's protocol", wholeLife, 3),
    {
      name: "claim",
      figures: { ratio: claims.ratio },
      what: "cost of a transition that claims, with lease and holder, against one that does not",
      measured: show(claims.ratio),
      toReach: ""
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
