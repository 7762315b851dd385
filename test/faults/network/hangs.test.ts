/** Connections that go silent without an error. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Redacted, Result, Schedule, Schema, type Scope, Stream } from "effect"
import {
  QueryFleet,
  type QueryKey,
  QueryStateMachine,
  RedisStore,
  RedisStoreError,
  RedisStoreLive
} from "effect-query-state"
import type { Redis } from "ioredis"
import * as Notifications from "../../support/Notifications.ts"
import { noListener } from "../../support/Notifications.ts"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RawRecord from "../../support/RawRecord.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

interface World {
  readonly admin: Redis
  readonly proxy: Proxy.Proxy
  readonly server: RedisServer.RedisServer
}

/** A store behind a proxy. */
const inWorld = <A, E>(
  commandTimeout: Duration.Input,
  test: (world: World) => Effect.Effect<A, E, RedisStore.RedisStore | Scope.Scope>
) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire()
    const proxy = yield* Proxy.acquire(server)
    const admin = yield* RedisAdmin.connect(server.url)
    const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(proxy.url), commandTimeout })
    return yield* Effect.provide(test({ admin, proxy, server }), StoreLayer)
  })

/** Freezes the server until the scope closes. */
const freeze = ({ pid }: RedisServer.RedisServer) =>
  Effect.acquireRelease(
    Effect.sync(() => process.kill(pid, "SIGSTOP")),
    () => Effect.sync(() => process.kill(pid, "SIGCONT"))
  )

interface Silence {
  readonly how: string
  readonly begin: (world: World) => Effect.Effect<unknown, never, Scope.Scope>
}

/** What silences the connections that there are. New ones are none the worse. */
const silentConnections: ReadonlyArray<Silence> = [
  { how: "the other side is gone without a close", begin: ({ proxy }) => proxy.halfOpen("all") },
  { how: "answers are held back", begin: ({ proxy }) => proxy.pause("all") }
]

const silentNetworks: ReadonlyArray<Silence> = [
  { how: "nothing comes through", begin: ({ proxy }) => proxy.blackHole },
  { how: "everything is too late", begin: ({ proxy }) => proxy.delay("1 hour") }
]

const lease = Duration.seconds(2)

const isStoreError = Schema.is(RedisStoreError.RedisStoreError)

/** A run that has lost its claim joins what there is. Here that is a query whose lease lapses, and which it runs again. */
const runOnceMore = (query: QueryStateMachine.QueryStateMachine, work: () => Effect.Effect<unknown>) => {
  let runs = 0
  const execute = () => Effect.suspend(() => runs++ === 0 ? work() : Effect.succeed("ran again"))
  return query.run({ execute, result: Effect.succeedSome("joined"), lease })
}

const assertJoined = (end: Result.Result<unknown, unknown> | undefined) => {
  if (end !== undefined && Result.isSuccess(end)) return assert.strictEqual(end.success, "ran again")
  // Nothing else can be learned of the query.
  assert.isTrue(isStoreError(end?.failure), String(end?.failure))
}

it.live.each([...silentConnections, ...silentNetworks])(
  "claimed work is interrupted before its lease can lapse, where $how",
  ({ begin }) =>
    inWorld("5 seconds", (world) =>
      Effect.gen(function*() {
        const { admin } = world
        const owners = yield* Effect.forEach(["executing", "resetting", "run"] as const, (by) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            if (by !== "run") yield* driveTo(key, by === "executing" ? "Queued" : "Completed")
            return { by, key, query: yield* QueryStateMachine.make(key) }
          }))
        const atInterruption = new Map<QueryKey.QueryKey, { readonly left: number; readonly state: string | null }>()
        let working = 0
        const everybodyWorks = Effect.repeat(Effect.delay(Effect.sync(() => working), 1), {
          until: (count) => count === owners.length
        })

        const workOn = (key: QueryKey.QueryKey) => () =>
          Effect.gen(function*() {
            const first = yield* RawRecord.look(admin, key)
            // A renewal has been answered.
            yield* Effect.repeat(Effect.delay(RawRecord.look(admin, key), 5), {
              until: ({ expiresAtMillis }) => expiresAtMillis > first.expiresAtMillis
            })
            working += 1
            return yield* Effect.never
          }).pipe(Effect.onInterrupt(() =>
            Effect.gen(function*() {
              const now = yield* RawRecord.serverMillis(admin)
              const { expiresAtMillis, state } = yield* RawRecord.look(admin, key)
              atInterruption.set(key, { left: expiresAtMillis - now, state })
            })
          ))

        const { ends } = yield* Effect.all({
          ends: Effect.forEach(owners, ({ by, key, query }) => {
            const work = workOn(key)
            const outcome: Effect.Effect<unknown, unknown> = by === "executing"
              ? query.withExecution(work, { lease })
              : by === "resetting"
              ? query.withReset(work, { lease })
              : runOnceMore(query, work)
            return Effect.result(outcome)
          }, { concurrency: "unbounded" }),
          silence: Effect.andThen(everybodyWorks, begin(world))
        }, { concurrency: "unbounded" })

        for (const [index, { by, key }] of owners.entries()) {
          const { left = Number.NaN, state } = atInterruption.get(key) ?? {}
          assert.strictEqual(state, by === "resetting" ? "resetting" : "executing")
          assert.isAbove(left, 0, `${by} has given up in time`)
          const end = ends[index]
          if (by === "run") {
            assertJoined(end)
            continue
          }
          assert.deepInclude(end !== undefined && Result.isFailure(end) ? end.failure : end, { _tag: "LeaseLost" })
        }
      }))
)

it.live.each(silentConnections)(
  "claimed work renews its claim by another connection, where $how, if commandTimeout is shorter than the lease",
  ({ begin }) =>
    inWorld("300 millis", (world) =>
      Effect.gen(function*() {
        const { admin } = world
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        yield* query.enqueue
        const work = Effect.gen(function*() {
          yield* begin(world)
          const { expiresAtMillis } = yield* RawRecord.look(admin, key)
          yield* Effect.repeat(Effect.delay(RawRecord.serverMillis(admin), 20), {
            until: (now) => now > expiresAtMillis
          })
          return "done"
        })
        assert.strictEqual(yield* query.withExecution(() => work, { lease }), "done")
        assert.strictEqual((yield* query.currentState)._tag, "Completed")
      })),
  { concurrent: true }
)

const outages: ReadonlyArray<Silence> = [
  ...silentNetworks,
  { how: "the server stands still", begin: ({ server }) => freeze(server) },
  { how: "nothing listens any more", begin: ({ proxy }) => Effect.andThen(proxy.refuse, proxy.cut("all")) }
]

/** Everything that asks the store. */
const calls = Effect.fnUntraced(
  function*(idle: QueryKey.QueryKey, queued: QueryKey.QueryKey, completed: QueryKey.QueryKey) {
    const store = yield* RedisStore.RedisStore
    const fleet = yield* QueryFleet.make
    const [onIdle, onQueued, onCompleted] = yield* Effect.forEach([idle, queued, completed], QueryStateMachine.make)
    assert.isDefined(onIdle)
    assert.isDefined(onQueued)
    assert.isDefined(onCompleted)
    const firstOf = <A, E>(results: Effect.Effect<ReadonlyArray<Result.Result<A, E>>>) =>
      Effect.flatMap(results, ([first = assert.fail()]) => Effect.fromResult(first))
    return Object.entries<Effect.Effect<unknown, unknown>>({
      compareAndSet: store.compareAndSet(idle, { event: "Queue" }),
      compareAndSetMany: firstOf(store.compareAndSetMany([[idle, { event: "Queue" }]])),
      read: store.read(idle),
      readMany: firstOf(store.readMany([queued])),
      renew: store.renew(queued, 1, "1 minute"),
      changes: Effect.scoped(store.changes(idle, { ...noListener })),
      keys: Stream.runDrain(store.keys(idle.db)),
      databases: Stream.runDrain(store.databases),
      trigger: onQueued.trigger("Cancel"),
      waitUntilComplete: onQueued.waitUntilComplete(),
      "changes of a machine": Stream.runDrain(onQueued.changes),
      executing: onQueued.withExecution(() => Effect.die("the work must not run")),
      resetting: onCompleted.withReset(() => Effect.die("the purge must not run")),
      run: onIdle.run({
        execute: () => Effect.die("the work must not run"),
        result: Effect.die("there is no result")
      }),
      summary: fleet.summary([idle, queued]),
      list: Stream.runDrain(fleet.list(idle.db)),
      "databases of a fleet": Stream.runDrain(fleet.databases)
    })
  }
)

/** What an outage leads to, and nothing else. */
const assertOutage = (name: string, exit: Exit.Exit<unknown, unknown>) => {
  const error = Exit.findErrorOption(exit)
  if (Option.isNone(error) || !isStoreError(error.value)) {
    return assert.fail(`${name} ended otherwise: ${String(exit)}`)
  }
  assert.include(["TimedOut", "ConnectionLost"], error.value.reason._tag, name)
}

const worksAgain = Effect.gen(function*() {
  const store = yield* RedisStore.RedisStore
  yield* Effect.retry(store.read(yield* freshKey), { times: 10 })
  const query = yield* QueryStateMachine.make(yield* freshKey)
  yield* query.enqueue
  // Nothing but a notification can end this wait.
  const schedule = Schedule.spaced("1 hour")
  const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
  yield* query.cancel
  assert.strictEqual((yield* Fiber.join(waiter)).state._tag, "Cancelled")
})

it.live.each(outages)(
  "every call ends with a typed error in bounded time, where $how, and the same store works afterwards",
  ({ begin }) =>
    inWorld("300 millis", (world) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const [idle, queued, completed] = yield* Effect.all([freshKey, freshKey, freshKey])
        yield* driveTo(queued, "Queued")
        yield* driveTo(completed, "Completed")
        // So that there is a connection for notifications too.
        yield* Effect.scoped(store.changes(queued, { ...noListener }))
        const all = yield* calls(idle, queued, completed)

        yield* Effect.scoped(Effect.gen(function*() {
          yield* begin(world)
          const ends = yield* Effect.forEach(
            all,
            ([name, call]) =>
              Effect.map(Effect.exit(Effect.timeout(call, "10 seconds")), (exit) => [name, exit] as const),
            {
              concurrency: "unbounded"
            }
          )
          for (const [name, exit] of ends) assertOutage(name, exit)
        }))
        yield* world.proxy.pass
        yield* worksAgain
      }))
)

it.live.each(silentConnections)(
  "a connection is replaced, where $how, and the same store works",
  ({ begin }) =>
    inWorld("300 millis", (world) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const notifications = yield* Notifications.subscribe(yield* freshKey)
        yield* begin(world)
        const exit = yield* Effect.exit(store.read(yield* freshKey))
        assertOutage("read", exit)
        yield* Effect.exit(Effect.scoped(store.changes(yield* freshKey, { ...noListener })))
        // Earlier subscribers are asked to read.
        assert.strictEqual(yield* notifications.next, Number.POSITIVE_INFINITY)
        yield* worksAgain
      })),
  { concurrent: true }
)
