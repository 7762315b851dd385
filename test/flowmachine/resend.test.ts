/** Commands that are sent again after a lost reply, on queries that FlowMachine moves as well. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted } from "effect"
import {
  type QueryEvent,
  type QueryKey,
  QueryState,
  RedisStore,
  RedisStoreFlowMachine,
  Transition
} from "effect-query-state"
import { recordKey, stateKey } from "../support/flowMachine.ts"
import * as Proxy from "../support/Proxy.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"
import * as ReferenceMachine from "../support/ReferenceMachine.ts"

type Store = RedisStore.RedisStore["Service"]

/** A server, a store that reaches it through a proxy, and what is there as it is. */
const acquire = Effect.gen(function*() {
  const server = yield* RedisServer.acquire()
  const proxy = yield* Proxy.acquire(server)
  const admin = yield* RedisAdmin.connect(server.url)
  const storeAt = (url: string) =>
    Effect.map(
      Layer.build(RedisStoreFlowMachine.layer({ url: Redacted.make(url), commandTimeout: "20 seconds" })),
      Context.get(RedisStore.RedisStore)
    )
  const [direct, proxied] = yield* Effect.all([storeAt(server.url), storeAt(proxy.url)])

  /** Sends a command of which the answer is lost, and sends it again once `meanwhile` has happened. */
  const sendTwice = <A, E>(
    key: QueryKey.QueryKey,
    send: (store: Store) => Effect.Effect<A, E>,
    meanwhile: Effect.Effect<unknown>
  ) =>
    Effect.gen(function*() {
      const version = Effect.promise(() => admin.hget(recordKey(key), "v"))
      const before = yield* version
      yield* proxy.cutBeforeReply
      yield* proxy.refuse
      const sending = yield* Effect.forkChild(Effect.result(send(proxied)), { startImmediately: true })
      yield* Effect.repeat(version, { until: (after) => after !== before })
      yield* meanwhile
      yield* proxy.pass
      return yield* Fiber.join(sending)
    })

  return { admin, direct, sendTwice }
})

it.live.each(Transition.edges.filter(({ from, to }) => from !== "ResetFailed" && to !== "ResetFailed"))(
  "$event on a query that is $from happens once and gives the first answer",
  ({ event, from, to }) =>
    Effect.gen(function*() {
      const { admin, direct, sendTwice } = yield* acquire
      const key = yield* freshKey
      yield* driveTo(key, from).pipe(Effect.provideService(RedisStore.RedisStore, direct))
      const result = yield* sendTwice(key, (store) => store.compareAndSet(key, { event, lease: "1 hour" }), Effect.void)
      const { changed, record } = yield* Effect.fromResult(result)
      assert.deepStrictEqual([changed, record.state._tag], [true, to])
      assert.deepStrictEqual(yield* direct.read(key), record)
      assert.strictEqual(yield* Effect.promise(() => admin.get(stateKey(key))), QueryState.wireNames[to])
    })
)

it.live("a command whose query FlowMachine moved since is answered as unknown and writes nothing", () =>
  Effect.gen(function*() {
    const { admin, direct, sendTwice } = yield* acquire
    const key = yield* freshKey
    const machine = yield* ReferenceMachine.make(admin, key)
    const moveOn: ReadonlyArray<readonly [QueryEvent.QueryEvent, ReferenceMachine.Event]> = [
      ["Queue", "EXECUTE"],
      ["Finish", "RESET"]
    ]
    for (const [event, theirs] of moveOn) {
      const result = yield* sendTwice(
        key,
        (store) => store.compareAndSet(key, { event }),
        machine.trigger(theirs)
      )
      const error = yield* Effect.flip(Effect.fromResult(result))
      assert.deepStrictEqual(errorFields(error), { _tag: "ConnectionLost", operation: event, key })
      const state = yield* machine.currentState
      assert.strictEqual(QueryState.wireNames[(yield* direct.read(key)).state._tag], state)
    }
    assert.strictEqual(yield* machine.currentState, "resetting")
  }))
