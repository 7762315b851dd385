/** Queries whose work runs other queries: a cycle fails at once, and nothing else does. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Equal, Exit, Fiber, Layer, Redacted, Schema } from "effect"
import {
  QueryError,
  QueryKey,
  type QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreError,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import * as RedisServer from "../support/RedisServer.ts"

type Graph = Readonly<Record<string, ReadonlyArray<string>>>

/** Another process with the same store: it shares no claims, but the records. */
const elsewhere = Effect.updateService(RedisStore.RedisStore, (store) => ({ ...store }))

const keyIn = (db: string, query: string) => QueryKey.makeUnsafe({ db, query })

let databases = 0

/** Runs the queries of a graph, each of which runs those that it needs, at the same time. */
const world = (graph: Graph) => {
  const db = `graph-${databases++}`
  const runs: Array<string> = []
  const work = (name: string): Effect.Effect<string, unknown, RedisStore.RedisStore> =>
    Effect.gen(function*() {
      const query = yield* QueryStateMachine.make(keyIn(db, name))
      return yield* query.run({
        execute: () =>
          Effect.gen(function*() {
            runs.push(name)
            // Long enough that all others are under way.
            yield* Effect.sleep("20 millis")
            const parts = yield* Effect.forEach(graph[name] ?? [], work, { concurrency: "unbounded" })
            return `${name}(${parts.join(",")})`
          }),
        result: Effect.succeedSome(`of ${name}`)
      })
    })
  /** Runs a query in this process, or in another one. */
  const run = (name: string, others: ReadonlyArray<string> = []) =>
    others.includes(name) ? elsewhere(work(name)) : work(name)
  return { db, run, runs }
}

const stores: ReadonlyArray<[name: string, store: Layer.Layer<RedisStore.RedisStore, unknown>]> = [
  ["in memory", RedisStoreMemory.layer],
  [
    "in Redis",
    Layer.unwrap(Effect.map(RedisServer.acquire(), ({ url }) => RedisStoreLive.layer({ url: Redacted.make(url) })))
  ]
]

const isCycle = Schema.is(QueryError.QueryCycle)

const pathOf = (exit: Exit.Exit<unknown, unknown>): string | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const error = exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
  return isCycle(error) ? error.path.map(({ query }) => query).join(" -> ") : undefined
}

describe.each(stores)("Queries that need each other, %s", (_, store) => {
  it.layer(store, { excludeTestServices: true, timeout: "30 seconds" })("", (it) => {
    it.effect("a query that runs itself fails at once", () =>
      Effect.gen(function*() {
        const { run } = world({ a: ["a"] })
        assert.strictEqual(pathOf(yield* Effect.exit(run("a"))), "a -> a")
      }))

    it.effect("a query that runs itself through others fails at once", () =>
      Effect.gen(function*() {
        const { run } = world({ a: ["b"], b: ["c"], c: ["a"] })
        assert.strictEqual(pathOf(yield* Effect.exit(run("a"))), "a -> b -> c -> a")
      }))

    it.effect.each([{ where: "of one process", others: [] }, { where: "of two processes", others: ["b"] }])(
      "two queries $where that are under way and need each other fail at once",
      ({ others }) =>
        Effect.gen(function*() {
          const { run } = world({ a: ["b"], b: ["a"] })
          const [a, b] = yield* Effect.all([
            Effect.exit(run("a", others)),
            Effect.exit(run("b", others))
          ], { concurrency: "unbounded" })
          const paths = [pathOf(a), pathOf(b)]
          assert.isTrue(paths.includes("a -> b -> a") || paths.includes("b -> a -> b"), String(paths))
        })
    )

    it.effect("a ring of five, each begun by another caller, fails at once", () =>
      Effect.gen(function*() {
        const names = ["a", "b", "c", "d", "e"]
        const { run } = world({ a: ["b"], b: ["c"], c: ["d"], d: ["e"], e: ["a"] })
        const exits = yield* Effect.forEach(names, (name) => Effect.exit(run(name, ["b", "d"])), {
          concurrency: "unbounded"
        })
        assert.isTrue(exits.some((exit) => pathOf(exit)?.split(" -> ").length === 6), String(exits.map(pathOf)))
      }))

    it.effect("a ring through work that runs a part of itself is found", () =>
      Effect.gen(function*() {
        // a runs b itself, b joins c, which another process runs and which needs a.
        const { run } = world({ a: ["b"], b: ["c"], c: ["a"] })
        const c = yield* Effect.forkChild(Effect.exit(run("c", ["c"])), { startImmediately: true })
        const a = yield* Effect.exit(run("a"))
        const paths = [pathOf(a), pathOf(yield* Fiber.join(c))]
        assert.isTrue(paths.some((path) => path?.split(" -> ").length === 4), String(paths))
      }))

    it.effect.each<{ shape: string; graph: Graph }>([
      { shape: "a diamond", graph: { a: ["b", "c"], b: ["d"], c: ["d"], d: [] } },
      { shape: "two queries that need the same third", graph: { a: ["d"], b: ["d"], c: [], d: [] } },
      { shape: "a chain", graph: { a: ["b"], b: ["c"], c: ["d"], d: [] } }
    ])("$shape ends well, whoever runs what", ({ graph }) =>
      Effect.gen(function*() {
        for (const others of [[], ["b"], ["c", "d"], ["a", "d"]]) {
          const { run, runs } = world(graph)
          const exits = yield* Effect.forEach(
            Object.keys(graph),
            (name) => Effect.exit(run(name, others)),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(exits.filter(Exit.isFailure), [])
          assert.deepStrictEqual(runs.toSorted(), Object.keys(graph))
        }
      }))

    it.effect("a wait that was given up is no part of a cycle", () =>
      Effect.gen(function*() {
        const { db } = world({})
        const [a, b] = yield* Effect.all([
          QueryStateMachine.make(keyIn(db, "a")),
          elsewhere(QueryStateMachine.make(keyIn(db, "b")))
        ])
        const done = yield* Effect.forkChild(
          a.run({
            execute: () =>
              Effect.gen(function*() {
                yield* b.enqueue
                const { state } = yield* b.trigger("Execute", { lease: "10 seconds" })
                assert.strictEqual(state._tag, "Executing")
                const given = yield* Effect.exit(
                  b.run({ execute: () => Effect.void, result: Effect.succeedSome(undefined), timeout: "10 millis" })
                )
                assert.isTrue(Exit.isFailure(given))
                yield* Effect.repeat(a.record, { until: ({ waitsFor }) => waitsFor === undefined })
                return "done"
              }),
            result: Effect.succeedSome("fetched")
          })
        )
        assert.strictEqual(yield* Fiber.join(done), "done")
      }))

    it.effect("a note that has become stale hides no cycle", () =>
      Effect.gen(function*() {
        const { db } = world({})
        const store = yield* RedisStore.RedisStore
        const executing = Effect.fnUntraced(function*(name: string) {
          const key = keyIn(db, name)
          const { record } = yield* store.compareAndSet(key, { event: ["Queue", "Execute"], lease: "1 minute" })
          return { key, version: record.version }
        })
        const [b, c, d] = yield* Effect.all([executing("b"), executing("c"), executing("d")])
        const note = ({ key, version }: QueryRecord.WaitsFor, waitsFor: ReadonlyArray<QueryRecord.WaitsFor>) =>
          store.renew(key, version, "1 minute", { waitsFor })
        const a = yield* QueryStateMachine.make(keyIn(db, "a"))
        const bMachine = yield* QueryStateMachine.make(b.key)
        const work = (claim: QueryState.Claim) =>
          Effect.gen(function*() {
            yield* note(c, [{ key: a.key, version: claim.fence }])
            yield* note(d, [c])
            // b has waited for c before, which was at another version then.
            yield* note(b, [{ ...c, version: c.version - 1 }, d])
            return yield* bMachine.run({
              execute: () => Effect.void,
              result: Effect.succeedSome(undefined),
              timeout: "5 seconds"
            })
          })
        const exit = yield* Effect.exit(a.run({ execute: work, result: Effect.succeedSome(undefined) }))
        assert.strictEqual(pathOf(exit), "a -> b -> d -> c -> a")
      }))

    it.effect("work that has run many others, which waited, still finds a cycle", () =>
      Effect.gen(function*() {
        const { db } = world({})
        const a = yield* QueryStateMachine.make(keyIn(db, "a"))
        const result = Effect.succeedSome(undefined)
        const join = (key: QueryKey.QueryKey) =>
          Effect.flatMap(
            QueryStateMachine.make(key),
            (query) => query.run({ execute: () => Effect.void, result, timeout: "5 seconds" })
          )
        // Each part waits for a query that is under way until then.
        const part = Effect.fnUntraced(function*(index: number) {
          const [query, other] = yield* Effect.all([
            QueryStateMachine.make(keyIn(db, `part-${index}`)),
            QueryStateMachine.make(keyIn(db, `other-${index}`))
          ])
          yield* other.trigger(["Queue", "Execute"])
          const execute = () =>
            Effect.gen(function*() {
              const joining = yield* Effect.forkChild(join(other.key))
              yield* Effect.repeat(query.record, { until: ({ waitsFor }) => waitsFor !== undefined })
              yield* other.finish
              return yield* Fiber.join(joining)
            })
          return yield* query.run({ execute, result })
        })
        const bWorks = yield* Deferred.make<void>()
        const mayWait = yield* Deferred.make<void>()
        const runsB = yield* Effect.forkChild(elsewhere(Effect.flatMap(QueryStateMachine.make(keyIn(db, "b")), (b) =>
          b.run({
            execute: () =>
              Deferred.succeed(bWorks, undefined).pipe(
                Effect.andThen(Deferred.await(mayWait)),
                Effect.andThen(join(a.key))
              ),
            result
          }))))
        yield* Deferred.await(bWorks)
        const runsA = yield* Effect.exit(a.run({
          execute: () =>
            Effect.gen(function*() {
              yield* Effect.forEach(
                Array.from({ length: 40 }, (_, index) =>
                  index),
                part
              )
              const noted = Effect.map(a.record, ({ state }) => QueryState.claimOf(state)?.expiresAt)
              const before = yield* noted
              const joining = yield* Effect.forkChild(Effect.delay(join(keyIn(db, "b")), "5 millis"))
              // What it waits for is noted with a renewal. Only then the other begins to wait, and has to find it.
              yield* Effect.repeat(noted, { until: (now) => !Equal.equals(now, before) })
              yield* Deferred.succeed(mayWait, undefined)
              return yield* Fiber.join(joining)
            }),
          result
        }))
        const paths = [pathOf(runsA), pathOf(yield* Fiber.await(runsB))]
        assert.isTrue(paths.includes("a -> b -> a") || paths.includes("b -> a -> b"), String(paths))
      }))

    it.effect("a cycle is found although notes can be neither recorded nor read at first", () =>
      Effect.gen(function*() {
        const { db } = world({})
        const failed = new Set<string>()
        const failOnce = <A, E>(what: string, key: QueryKey.QueryKey, effect: Effect.Effect<A, E>) =>
          Effect.suspend((): Effect.Effect<A, E | RedisStoreError.RedisStoreError> => {
            const id = `${what} ${key.query}`
            if (failed.has(id)) return effect
            failed.add(id)
            const reason = new RedisStoreError.ConnectionLost({})
            return Effect.fail(new RedisStoreError.RedisStoreError({ operation: what, key, reason }))
          })
        const unreliably = Effect.updateService(RedisStore.RedisStore, (store) => ({
          ...store,
          renew: (key, fence, lease, report) => {
            const renewal = store.renew(key, fence, lease, report)
            return report?.waitsFor === undefined ? renewal : failOnce("renew", key, renewal)
          },
          read: (key) => failOnce("read", key, store.read(key))
        }))
        const needs = (name: string, other: string, meets: Deferred.Deferred<void>, met: Deferred.Deferred<void>) =>
          unreliably(Effect.gen(function*() {
            const options = { result: Effect.succeedSome(undefined), timeout: "5 seconds" } as const
            const query = yield* QueryStateMachine.make(keyIn(db, name))
            const needed = yield* QueryStateMachine.make(keyIn(db, other))
            return yield* query.run({
              ...options,
              execute: () =>
                Deferred.succeed(meets, undefined).pipe(
                  Effect.andThen(Deferred.await(met)),
                  Effect.andThen(needed.run({ ...options, execute: () => Effect.void }))
                )
            })
          }))
        const [a, b] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const exits = yield* Effect.all([
          Effect.exit(needs("a", "b", a, b)),
          Effect.exit(needs("b", "a", b, a))
        ], { concurrency: "unbounded" })
        const paths = exits.map(pathOf)
        assert.isTrue(paths.includes("a -> b -> a") || paths.includes("b -> a -> b"), String(paths))
      }))

    it.effect("within work, a result that is there is answered though there is no time to wait", () =>
      Effect.gen(function*() {
        const { db } = world({})
        const [a, b] = yield* Effect.all([
          QueryStateMachine.make(keyIn(db, "a")),
          QueryStateMachine.make(keyIn(db, "b"))
        ])
        const options = { execute: () => Effect.succeed("executed"), result: Effect.succeedSome("fetched") }
        yield* b.run(options)
        assert.strictEqual(yield* a.run({ ...options, execute: () => b.run({ ...options, timeout: 0 }) }), "fetched")
      }))

    it.effect("a purge that runs its own query fails at once", () =>
      Effect.gen(function*() {
        const { db } = world({})
        const a = yield* QueryStateMachine.make(keyIn(db, "a"))
        yield* a.trigger(["Queue", "Execute", "Error"], { reason: Reason.leaseExpired() })
        const options = { execute: () => Effect.void, result: Effect.succeedSome(undefined) }
        const exit = yield* Effect.exit(a.run({ ...options, purge: () => a.run(options) }))
        assert.strictEqual(pathOf(exit), "a -> a")
      }))
  })
})
