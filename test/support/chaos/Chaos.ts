/**
 * Many clients on many connections which all want the same few queries, and others who wait for them, while connections
 * break, scripts are forgotten and leases lapse, as a seed decides.
 */
import { Context, Deferred, type Duration, Effect, Fiber, Layer, Random, Redacted, Schedule, type Scope } from "effect"
import {
  QueryKey,
  QueryState,
  QueryStateMachine,
  RedisStore,
  type RedisStoreError,
  RedisStoreLive,
  Transition
} from "effect-query-state"
import { randomUUID } from "node:crypto"
import * as Proxy from "../Proxy.ts"
import * as PublishedNotifications from "../PublishedNotifications.ts"
import * as RedisAdmin from "../RedisAdmin.ts"
import * as RedisServer from "../RedisServer.ts"
import { type Breakable, breakThings, choose } from "./faults.ts"
import { type Change, type Entry, Recorder, violations } from "./linearizability.ts"

type Store = RedisStore.RedisStore["Service"]

export interface Report {
  readonly entries: ReadonlyArray<Entry>
  readonly changes: number
  readonly faults: Readonly<Record<string, number>>
  /** How many waits ended, and how many of those had been pending and ended with an outcome. */
  readonly waits: number
  readonly wakes: number
  readonly violations: ReadonlyArray<string>
}

const connections = 4
const clients = 16
const waiters = 8

/** A server behind a proxy, stores that are connected through it, and an observer on a connection of its own. */
export interface World extends Breakable {
  readonly stores: ReadonlyArray<Store>
  /** What is published of the queries of a database, by query, while the scope is open; complete once `delivered` has ended. */
  readonly listen: (
    db: QueryKey.QueryKey["db"]
  ) => Effect.Effect<ReadonlyMap<string, ReadonlyArray<Change>>, never, Scope.Scope>
  readonly delivered: Effect.Effect<unknown>
}

export const makeWorld: Effect.Effect<
  World,
  RedisServer.RedisServerError | RedisStoreError.RedisStoreError,
  Scope.Scope
> = Effect.gen(function*() {
  const server = yield* RedisServer.acquire()
  const proxy = yield* Proxy.acquire(server)
  const admin = yield* RedisAdmin.connect(server.url)
  const observer = yield* RedisAdmin.connect(server.url)
  const spared = yield* Effect.promise(() => Promise.all([admin.client("ID"), observer.client("ID")]))
  const logs = new Map<string, Map<string, Array<Change>>>()
  observer.on("pmessage", (_pattern: string, channel: string, message: string) => {
    const [, db = "", query = ""] = /\{(.*):(.*)\}/.exec(channel) ?? []
    const { state, version } = PublishedNotifications.parse(message)
    const log = logs.get(db)
    const changes = log?.get(query) ?? []
    log?.set(query, [...changes, { version, tag: QueryState.fromWireName(state) ?? "Known" }])
  })
  yield* Effect.promise(() => observer.psubscribe("query-state:*"))

  const build = Layer.build(RedisStoreLive.layer({ url: Redacted.make(proxy.url), commandTimeout: "1 second" }))
  return {
    server,
    proxy,
    admin,
    spared,
    stores: yield* Effect.replicateEffect(Effect.map(build, Context.get(RedisStore.RedisStore)), connections),
    listen: (db) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const log = new Map<string, Array<Change>>()
          logs.set(db, log)
          return log
        }),
        () => Effect.sync(() => logs.delete(db))
      ),
    // What was published before this is delivered before it is answered.
    delivered: Effect.promise(() => observer.ping())
  }
})

/** Does what a confused program might do to a query, again and again until it is over. */
const client = Effect.fnUntraced(
  function*(
    store: Store,
    keys: ReadonlyArray<QueryKey.QueryKey>,
    recorder: Recorder,
    holder: string,
    over: Deferred.Deferred<void>
  ) {
    const fences = new Map<QueryKey.QueryKey, number>()
    const seen = new Map<QueryKey.QueryKey, QueryState.Tag>()
    while (!(yield* Deferred.isDone(over))) {
      const key = yield* choose(keys)
      const kind = yield* Random.nextIntBetween(0, 9)
      const fence = (yield* Random.next) < 0.6 ? fences.get(key) : undefined
      if (kind < 2) {
        const read = Effect.map(store.read(key), (record) => ({ record, changed: false }))
        yield* recorder.note(key, { _tag: "Read" }, read)
      } else if (kind < 4 && fence !== undefined) {
        const renew = Effect.map(store.renew(key, fence, "50 millis"), (record) => ({ record, changed: false }))
        yield* recorder.note(key, { _tag: "Renew", fence }, renew)
      } else {
        const accepted = Transition.edges.filter(({ from }) => from === (seen.get(key) ?? "Known"))
        const { event } = yield* choose((yield* Random.next) < 0.8 ? accepted : Transition.edges)
        const lease = (yield* Random.next) < 0.5 ? yield* Random.nextIntBetween(5, 100) : undefined
        const command = { event, fence, lease, holder: lease === undefined ? undefined : holder }
        const outcome = yield* recorder.note(key, { _tag: "CompareAndSet", command }, store.compareAndSet(key, command))
        if (outcome._tag === "Unknown") continue
        seen.set(key, outcome.record.state._tag)
        if (outcome._tag === "Answer" && outcome.changed) fences.set(key, outcome.record.version)
      }
    }
  }
)

/** Waits for one query after the other. What a wait ends with was read meanwhile, and so is noted as what was read. */
const waiter = Effect.fnUntraced(
  function*(
    store: Store,
    keys: ReadonlyArray<QueryKey.QueryKey>,
    recorder: Recorder,
    count: { waits: number; wakes: number; hung: number },
    over: Deferred.Deferred<void>
  ) {
    while (!(yield* Deferred.isDone(over))) {
      const key = yield* choose(keys)
      const query = yield* Effect.provideService(QueryStateMachine.make(key), RedisStore.RedisStore, store)
      let wasPending = false
      const schedule = Schedule.spaced("200 millis").pipe(
        Schedule.setInputType<unknown>(),
        Schedule.tap(() =>
          Effect.sync(() => {
            wasPending = true
          })
        )
      )
      const wait = query.waitUntilComplete({ schedule, timeout: yield* Random.nextIntBetween(10, 1_000) }).pipe(
        Effect.map((record) => ({ record, hasEnded: true })),
        Effect.catchTag("StillPending", ({ record }) => Effect.succeed({ record, hasEnded: false })),
        Effect.map(({ hasEnded, record }) => {
          if (hasEnded !== QueryState.isDeterminate(record.state)) count.hung += 1
          if (hasEnded && wasPending) count.wakes += 1
          return { record, changed: false }
        })
      )
      yield* recorder.note(key, { _tag: "Read" }, wait).pipe(
        Effect.timeoutOrElse({ duration: "30 seconds", orElse: () => Effect.sync(() => count.hung += 1) })
      )
      count.waits += 1
    }
  }
)

/** Runs the clients on fresh queries until `over`, and checks all answers. */
export const play = Effect.fnUntraced(function*(
  world: World,
  over: Deferred.Deferred<void>
): Effect.fn.Return<Report, never, Scope.Scope> {
  const db = QueryKey.DbId.make(randomUUID())
  const keys = ["a", "b", "c"].map((query) => QueryKey.makeUnsafe({ db, query }))
  const logs = yield* world.listen(db)
  const recorder = new Recorder()
  const faults: Record<string, number> = {}
  const count = { waits: 0, wakes: 0, hung: 0 }
  const breaking = yield* Effect.forkChild(breakThings(world, faults))
  const holders = Array.from({ length: clients }, (_, index) => `client-${index}`)
  yield* Effect.all([
    Effect.forEach(
      holders,
      (holder) => Effect.flatMap(choose(world.stores), (store) => client(store, keys, recorder, holder, over)),
      { concurrency: "unbounded" }
    ),
    Effect.replicateEffect(
      Effect.flatMap(choose(world.stores), (store) => waiter(store, keys, recorder, count, over)),
      waiters,
      { concurrency: "unbounded" }
    )
  ], { concurrency: "unbounded" })
  yield* Fiber.interrupt(breaking)
  yield* world.proxy.pass
  yield* world.delivered
  return {
    entries: recorder.entries,
    changes: [...logs.values()].flat().length,
    faults,
    waits: count.waits,
    wakes: count.wakes,
    violations: [
      ...Array.from({ length: count.hung }, () => "a wait did not end, or ended with a query that is pending"),
      ...keys.flatMap((key) =>
        violations(logs.get(key.query) ?? [], recorder.entries.filter((entry) => entry.key === key))
      )
    ]
  }
}, Effect.scoped)

/** Runs the clients for some time, and checks all answers. */
export const runChaos = (
  options: { readonly seed: number; readonly duration: Duration.Input }
): Effect.Effect<Report, unknown> =>
  Effect.gen(function*() {
    const world = yield* makeWorld
    const over = yield* Deferred.make<void>()
    yield* Effect.forkChild(Effect.andThen(Effect.sleep(options.duration), Deferred.succeed(over, undefined)))
    return yield* play(world, over)
  }).pipe(Random.withSeed(options.seed), Effect.scoped)
