/** Processes of both kinds, which move the same hundred queries at random. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Random, Redacted, type Scope } from "effect"
import {
  type QueryEvent,
  QueryKey,
  QueryState,
  QueryStateMachine,
  RedisStore,
  RedisStoreFlowMachine,
  Transition
} from "effect-query-state"
import { randomUUID } from "node:crypto"
import { members } from "../support/flowMachine.ts"
import { pathBetween } from "../support/paths.ts"
import { freshKey } from "../support/queries.ts"
import * as RedisServer from "../support/RedisServer.ts"
import * as ReferenceProcess from "../support/ReferenceProcess.ts"
import * as StateLog from "./StateLog.ts"

type Store = RedisStore.RedisStore["Service"]

/** A transition that a store was answered to have made. */
interface Won {
  readonly query: string
  readonly event: QueryEvent.QueryEvent
  readonly fence: number | undefined
  readonly version: number
}

/** Records the transitions that a store was answered to have made. */
const noting = (store: Store, won: Array<Won>): Store => {
  const compareAndSet = (key: QueryKey.QueryKey, command: RedisStore.Command) =>
    Effect.tap(store.compareAndSet(key, command), ({ changed, record: { version } }) =>
      Effect.sync(() => {
        if (!changed) return
        const events = Transition.eventsOf(command.event)
        for (const [index, event] of events.entries()) {
          const fence = index === events.length - 1 ? command.fence : undefined
          won.push({ query: key.query, event, fence, version: version - (events.length - 1 - index) })
        }
      }))
  return RedisStore.RedisStore.of({ ...store, compareAndSet: compareAndSet as Store["compareAndSet"] })
}

/** What is played: by how many of ours, how many steps of each, on how many queries, and how long work takes at most. */
interface Game {
  readonly stores: number
  readonly queries: number
  readonly steps: number
  readonly workMillis: number
}

/** Moves random queries in random ways: by a plain step, by claimed work, or by `run`. */
const play = Effect.fnUntraced(function*(keys: ReadonlyArray<QueryKey.QueryKey>, { steps, workMillis }: Game) {
  const store = yield* RedisStore.RedisStore
  const [first = yield* freshKey] = keys
  const among = <A>(options: ReadonlyArray<A>, otherwise: A) =>
    Effect.map(Random.nextIntBetween(0, options.length - 1), (index) => options[index] ?? otherwise)

  for (let step = 0; step < steps; step++) {
    const key = yield* among(keys, first)
    const query = yield* QueryStateMachine.make(key)
    // Others move the query meanwhile, on purpose.
    const work = Effect.sleep(yield* Random.nextIntBetween(0, workMillis))
    const plain = Effect.gen(function*() {
      const { state } = yield* store.read(key)
      const legal = Transition.edges.filter(({ from }) => from === state._tag)
      return yield* store.compareAndSet(key, {
        event: yield* Effect.map(among(legal, undefined), (edge) => edge?.event ?? "Queue")
      })
    })
    const moves: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
      plain,
      plain,
      query.withExecution(() => work),
      query.withReset(() => work),
      query.run({ execute: () => work, result: Effect.asSome(work), recover: () => true, timeout: "20 millis" })
    ]
    yield* Effect.result(yield* among(moves, plain))
  }
})

/** Stores with a connection each. */
const storesAt = (url: string, count: number): Effect.Effect<ReadonlyArray<Store>, unknown, Scope.Scope> =>
  Effect.forEach(
    Array.from({ length: count }),
    () =>
      Effect.map(
        Layer.build(RedisStoreFlowMachine.layer({ url: Redacted.make(url) })),
        Context.get(RedisStore.RedisStore)
      )
  )

/** The events that lead from one state to another by its name in Redis. */
const eventsBetween = (from: string, to: string) => {
  const path = pathBetween(stateOf(from)._tag, stateOf(to)._tag)
  return path === undefined ? undefined : Transition.eventsOf(path)
}

const count = <A>(items: Iterable<A>) => {
  const counts = new Map<A, number>()
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1)
  return counts
}

// Of a hundred queries all kinds of steps are seen. Two are taken through whole lives while the only one here works on them,
// and does not look.
it.live.each<Game & { readonly seed: number }>([
  { seed: 1, stores: 3, queries: 100, steps: 300, workMillis: 4 },
  { seed: 2, stores: 1, queries: 2, steps: 150, workMillis: 40 }
])(
  "each state of $queries queries is reached by a legal edge that one process won, and every wait ends",
  ({ seed, ...game }) =>
    Effect.gen(function*() {
      const server = yield* RedisServer.acquire()
      const db = randomUUID()
      const queries = Array.from({ length: game.queries }, (_, index) => `query ${index}`)
      const keys = queries.map((query) => QueryKey.makeUnsafe({ db, query }))
      const log = yield* StateLog.watch(server, db)
      const ours: Array<Won> = []
      const stores = (yield* storesAt(server.url, game.stores)).map((store) => noting(store, ours))
      const references = yield* Effect.all([ReferenceProcess.spawn(server.url), ReferenceProcess.spawn(server.url)], {
        concurrency: "unbounded"
      })

      const waits = yield* Effect.forEach(keys, (key, index) =>
        QueryStateMachine.make(key).pipe(
          Effect.flatMap((query) => Effect.delay(query.waitUntilComplete(), index)),
          Effect.provideService(RedisStore.RedisStore, stores[index % stores.length] ?? assert.fail()),
          Effect.forkScoped
        ))
      const players = stores.map((store) =>
        Effect.as(
          Effect.provideService(play(keys, game), RedisStore.RedisStore, store),
          [] as ReadonlyArray<ReferenceProcess.Won>
        )
      )
      const opponents = references.map(({ play }, index) =>
        play({ db, queries, seed: seed * 10 + index, steps: 2_000, waits: 30 })
      )
      const theirs = (yield* Effect.all([...opponents, ...players], { concurrency: "unbounded" })).flat()

      // What is left pending is decided, by the reference, so that all waits can end.
      const closing = yield* Effect.forEach(keys, (key) =>
        Effect.gen(function*() {
          const machine = yield* (references[0] ?? assert.fail()).make(key)
          const answers = [] as Array<ReferenceProcess.Won>
          for (const event of ["CANCEL", "FINISH_RESET"] as const) {
            if ((yield* machine.trigger(event)).changed) answers.push({ query: key.query, event })
          }
          return answers
        }))
      yield* Fiber.joinAll(waits)
      assert.deepStrictEqual(yield* Effect.all(references.map(({ join }) => join)), [30, 30])

      const entries = yield* log.read
      const taken = Array.from(entries).flatMap(([query, states]) =>
        states.flatMap(({ state, version }, index) => {
          const from = states[index - 1]?.state ?? "known"
          const events = eventsBetween(from, state) ?? assert.fail(`${query}: ${from} is followed by ${state}`)
          return events.map((event) => `${query}: ${members[event]} by ${version === undefined ? "FlowMachine" : "us"}`)
        })
      )
      const won = [
        ...ours.map(({ event, query }) => `${query}: ${members[event]} by us`),
        ...[...theirs, ...closing.flat()].map(({ event, query }) => `${query}: ${event} by FlowMachine`)
      ]
      assert.deepStrictEqual(count(won.toSorted()), count(taken.toSorted()))

      for (const [query, states] of entries) {
        const versions = states.flatMap(({ version }) => version ?? [])
        assert.deepStrictEqual(versions, [...new Set(versions)].toSorted((left, right) => left - right))
        // There is no other transition between a claim and the outcome of its work.
        for (const { fence, version } of ours.filter((step) => step.query === query && step.fence !== undefined)) {
          const at = states.findIndex((entry) => entry.version === version)
          assert.isAtLeast(at, 0)
          const before = states[at - 1]
          if (before?.version !== undefined) assert.strictEqual(before.version, fence)
          else assert.strictEqual(QueryState.isPending(stateOf(before?.state)), false)
        }
      }
      // Both kinds were at it.
      const executions = won.filter((step) => step.includes("EXECUTE"))
      assert.isAbove(executions.filter((step) => step.endsWith("us")).length, 0)
      assert.isAbove(executions.filter((step) => step.endsWith("FlowMachine")).length, 0)
    }).pipe(Random.withSeed(seed))
)

const stateOf = (name = "known") => QueryState.make(QueryState.fromWireName(name) ?? "Known")

it("no two edges of the lifecycle have the same ends", () => {
  const pairs = Transition.edges.map(({ from, to }) => `${from} ${to}`)
  assert.deepStrictEqual(pairs, [...new Set(pairs)])
})
