/**
 * Many clients on many connections which all want the same few queries, while connections break, scripts are forgotten
 * and leases lapse, as a seed decides.
 */
import { Context, Deferred, type Duration, Effect, Fiber, Layer, Random, Redacted } from "effect"
import { QueryKey, QueryState, QueryStateMachine, RedisStore, RedisStoreLive, Transition } from "effect-query-state"
import type { Redis } from "ioredis"
import { type Change, type Entry, Recorder, violations } from "./History.ts"
import * as RedisAdmin from "./redisAdmin.ts"
import * as RedisServer from "./RedisServer.ts"

type Store = RedisStore.RedisStore["Service"]

export interface Report {
  readonly entries: ReadonlyArray<Entry>
  readonly changes: number
  /** How many waits there were, and how many of them an outcome ended. */
  readonly waits: number
  readonly wakes: number
  readonly faults: Readonly<Record<string, number>>
  readonly violations: ReadonlyArray<string>
}

const connections = 4
const clients = 16
const keys = ["a", "b", "c"].map((query) => QueryKey.makeUnsafe({ db: "chaos", query }))
const redisKeyOf = (key: QueryKey.QueryKey) => `query-state:{${key.db}:${key.query}}`

const choose = <A>(choices: ReadonlyArray<A>): Effect.Effect<A> =>
  Effect.map(Random.nextIntBetween(0, choices.length - 1), (index) => {
    const chosen = choices[index]
    if (chosen === undefined) throw new Error("nothing to choose from")
    return chosen
  })

/** Does what a confused program might do to a query, again and again until it is over. */
const client = Effect.fnUntraced(
  function*(store: Store, recorder: Recorder, holder: string, over: Deferred.Deferred<void>) {
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
        const told = yield* recorder.note(key, { _tag: "CompareAndSet", command }, store.compareAndSet(key, command))
        if (told._tag === "Unknown") continue
        seen.set(key, told.record.state._tag)
        if (told._tag === "Answer" && told.changed) fences.set(key, told.record.version)
      }
    }
  }
)

/** Waits for one query after the other. What a wait answers was read while it lasted. */
const waiter = Effect.fnUntraced(
  function*(store: Store, recorder: Recorder, count: { waits: number; wakes: number }, over: Deferred.Deferred<void>) {
    while (!(yield* Deferred.isDone(over))) {
      const key = yield* choose(keys)
      const query = yield* Effect.provideService(QueryStateMachine.make(key), RedisStore.RedisStore, store)
      const wait = query.waitUntilComplete({ timeout: "1 second" }).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            count.wakes += 1
          })
        ),
        Effect.catchTag("StillPending", ({ record }) => Effect.succeed(record)),
        Effect.map((record) => ({ record, changed: false }))
      )
      count.waits += 1
      yield* recorder.note(key, { _tag: "Read" }, wait)
      // There is nothing to wait for at once again.
      yield* Effect.sleep(5)
    }
  }
)

/** Breaks something, now and then. */
const faults = Effect.fnUntraced(function*(admin: Redis, spared: ReadonlyArray<number>, count: Record<string, number>) {
  while (true) {
    yield* Effect.sleep(yield* Random.nextIntBetween(1, 60))
    const kind = yield* choose(["cut", "cut", "cut", "scripts flushed", "server paused"] as const)
    count[kind] = (count[kind] ?? 0) + 1
    if (kind === "scripts flushed") yield* Effect.promise(() => admin.script("FLUSH"))
    else if (kind === "server paused") yield* Effect.promise(() => admin.call("CLIENT", "PAUSE", 20, "WRITE"))
    else {
      const list = yield* Effect.promise(() => admin.client("LIST") as Promise<string>)
      const ids = Array.from(list.matchAll(/^id=(\d+)/gm), ([, id]) => Number(id)).filter((id) => !spared.includes(id))
      if (ids.length === 0) continue
      const id = yield* choose(ids)
      yield* Effect.promise(() => admin.client("KILL", "ID", id).catch(() => 0))
    }
  }
})

/** Lets the clients loose for some time, and checks what they were told. */
export const runChaos = (
  options: { readonly seed: number; readonly duration: Duration.Input }
): Effect.Effect<Report, unknown> =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(server.url)
    const listener = yield* RedisAdmin.connect(server.url)
    const spared = yield* Effect.promise(() => Promise.all([admin.client("ID"), listener.client("ID")]))
    const logs = new Map(keys.map((key) => [redisKeyOf(key), Array<Change>()]))
    listener.on("pmessage", (_pattern: string, channel: string, message: string) => {
      const [version = "", name = ""] = message.split(" ")
      logs.get(channel)?.push({ version: Number(version), tag: QueryState.fromWireName(name) ?? "Known" })
    })
    yield* Effect.promise(() => listener.psubscribe("query-state:*"))

    const build = Layer.build(RedisStoreLive.layer({ url: Redacted.make(server.url), commandTimeout: "1 second" }))
    const stores = yield* Effect.replicateEffect(Effect.map(build, Context.get(RedisStore.RedisStore)), connections)
    const recorder = new Recorder()
    const count: Record<string, number> = {}
    const over = yield* Deferred.make<void>()
    const breaking = yield* Effect.forkChild(faults(admin, spared, count))
    yield* Effect.forkChild(Effect.andThen(Effect.sleep(options.duration), Deferred.succeed(over, undefined)))
    const waiting = { waits: 0, wakes: 0 }
    const waiters = yield* Effect.forkChild(Effect.forEach(
      stores,
      (store) => waiter(store, recorder, waiting, over),
      { concurrency: "unbounded", discard: true }
    ))
    yield* Effect.forEach(
      Array.from({ length: clients }, (_, index) => `client-${index}`),
      (holder) => Effect.flatMap(choose(stores), (store) => client(store, recorder, holder, over)),
      { concurrency: "unbounded" }
    )
    yield* Fiber.join(waiters)
    yield* Fiber.interrupt(breaking)
    // What was published before this is heard before it is answered.
    yield* Effect.promise(() => listener.ping())
    return {
      entries: recorder.entries,
      changes: [...logs.values()].flat().length,
      faults: count,
      ...waiting,
      violations: keys.flatMap((key) =>
        violations(logs.get(redisKeyOf(key)) ?? [], recorder.entries.filter((entry) => entry.key === key))
      )
    }
  }).pipe(Random.withSeed(options.seed), Effect.scoped)
