/** Failovers that lose what the old primary had answered, since its replica did not have it yet. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Redacted, Schedule, type Scope } from "effect"
import {
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreLive
} from "effect-query-state"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, freshKey, redisKeyOf } from "../../support/queries.ts"
import * as Replicated from "../../support/Replicated.ts"

interface World {
  readonly key: QueryKey.QueryKey
  readonly query: QueryStateMachine.QueryStateMachine
  /** Waits until the replica has the query in a state. */
  readonly replicaHas: (wireName: string) => Effect.Effect<unknown>
  /** Lets nothing more come to the replica. */
  readonly cutOff: Effect.Effect<void>
  /** Ends the primary, and puts the replica, as it is, in its place. */
  readonly failOver: Effect.Effect<void>
}

/** A store whose address always leads to the current primary. */
const inWorld = <A, E>(
  options: RedisStoreLive.StoreOptions,
  test: (world: World) => Effect.Effect<A, E, RedisStore.RedisStore | Scope.Scope>
) =>
  Effect.gen(function*() {
    const { primary, replicas: [replica = primary] } = yield* Replicated.acquire()
    const link = yield* Proxy.acquire(primary.server)
    yield* Replicated.follow(replica, link)
    const target = { host: primary.server.host, port: primary.server.port }
    const proxy = yield* Proxy.acquire(target)
    const failOver = Effect.gen(function*() {
      yield* Effect.promise(() => replica.admin.replicaof("NO", "ONE"))
      target.port = replica.server.port
      yield* primary.server.stop
    })
    return yield* Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const replicaHas = (wireName: string) =>
        Replicated.until(async () => (await replica.admin.hget(redisKeyOf(key), "s")) === wireName)
      return yield* test({ key, query, replicaHas, cutOff: link.blackHole, failOver })
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(proxy.url), ...options })))
  })

const schedule = Schedule.spaced("1 hour")

it.live("the holder of a claim lost in a failover gets LeaseLost, and another can run the query", () =>
  inWorld({}, ({ cutOff, failOver, query, replicaHas }) =>
    Effect.gen(function*() {
      yield* query.enqueue
      const interrupted = yield* Deferred.make<void>()
      const work = Effect.andThen(failOver, Effect.never).pipe(
        Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
      )
      yield* replicaHas("queued")
      yield* cutOff
      const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
      const lost = yield* Effect.flip(query.withExecution(() => work, { lease: "20 seconds" }))
      assert.strictEqual(lost._tag, "LeaseLost")
      yield* Deferred.await(interrupted)
      assert.deepStrictEqual(yield* query.currentState, QueryState.make("Queued"))

      assert.strictEqual(yield* query.withExecution(() => Effect.succeed("done")), "done")
      assert.strictEqual((yield* Fiber.join(waiter)).state._tag, "Completed")
    })))

it.live("a record lost in a failover ends its waits, and its holder gets LeaseLost", () =>
  inWorld({}, ({ cutOff, failOver, key, query }) =>
    Effect.gen(function*() {
      yield* cutOff
      const interrupted = yield* Deferred.make<void>()
      const work = Effect.andThen(failOver, Effect.never).pipe(
        Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
      )
      yield* query.enqueue
      const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
      const lost = yield* Effect.flip(query.withExecution(() => work, { lease: "20 seconds" }))
      assert.deepStrictEqual(
        lost._tag === "LeaseLost" && lost.record,
        QueryRecord.absent(key)
      )
      yield* Deferred.await(interrupted)
      assert.deepStrictEqual(yield* Fiber.join(waiter), QueryRecord.absent(key))

      // Versions go on growing, and with them the fences that storage compares.
      const { fence } = lost as { readonly fence: number }
      assert.isAbove(
        yield* query.run({ execute: (claim) => Effect.succeed(claim.fence), result: Effect.succeedSome(0) }),
        fence
      )
    })))

it.live("an outcome lost in a failover is pending again until the lease lapses", () =>
  inWorld({}, ({ cutOff, failOver, key, query, replicaHas }) =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const { version } = yield* driveTo(key, "Executing", { holder: "worker 1", lease: "3 seconds" })
      yield* replicaHas("executing")
      yield* cutOff
      assert.isTrue((yield* store.compareAndSet(key, { event: "Finish", fence: version })).changed)
      yield* failOver
      const { state } = yield* query.waitUntilComplete({ schedule })
      assert.deepStrictEqual(
        state,
        QueryState.make("Errored", { reason: Reason.leaseExpired("worker 1") })
      )
      // What was done under the lost claim is refused as ever.
      const error = yield* Effect.flip(store.compareAndSet(key, { event: "Reset", fence: version }))
      assert.strictEqual(error._tag, "LeaseLost")
    })))

it.live("with replication, a claim that a failover would lose is not confirmed", () =>
  inWorld({ replicas: { count: 1, timeout: "300 millis" } }, ({ cutOff, failOver, query }) =>
    Effect.gen(function*() {
      yield* query.enqueue
      yield* cutOff
      const work = Effect.die("the work must not start")
      const error = yield* Effect.flip(query.withExecution(() => work, { lease: "20 seconds" }))
      assert.deepInclude("reason" in error ? error.reason : error, {
        _tag: "NotReplicated",
        wanted: 1,
        acknowledged: 0
      })
      assert.strictEqual((yield* query.currentState)._tag, "Executing")
      yield* failOver
      assert.deepStrictEqual(yield* query.currentState, QueryState.make("Queued"))
    })))

it.live("an interrupted wait for replication is repeated, and the transition happens once", () =>
  Effect.gen(function*() {
    const { primary, replicas } = yield* Replicated.acquire()
    const { admin } = primary
    const proxy = yield* Proxy.acquire(primary.server)
    const isWaiting = () => admin.client("LIST").then((clients) => /flags=b.* cmd=wait /.test(String(clients)))
    yield* Effect.gen(function*() {
      const key = yield* freshKey
      const store = yield* RedisStore.RedisStore
      const queued = yield* Effect.gen(function*() {
        yield* Effect.forEach(replicas, Replicated.frozen)
        const queued = yield* Effect.forkChild(store.compareAndSet(key, { event: "Queue" }), { startImmediately: true })
        yield* Replicated.until(isWaiting)
        yield* proxy.cut("commands")
        yield* Replicated.until(async () => !(await isWaiting()))
        yield* Replicated.until(isWaiting)
        return queued
      }).pipe(Effect.scoped)
      const { changed, record } = yield* Fiber.join(queued)
      assert.isTrue(changed)
      assert.deepStrictEqual(yield* store.read(key), record)
      for (const { admin } of [primary, ...replicas]) {
        const version = yield* Effect.promise(() => admin.hget(redisKeyOf(key), "v"))
        assert.strictEqual(version, `${record.version}`)
      }
    }).pipe(
      Effect.provide(
        RedisStoreLive.layer({
          url: Redacted.make(proxy.url),
          commandTimeout: "20 seconds",
          replicas: { count: 1, timeout: "10 seconds" }
        })
      )
    )
  }))
