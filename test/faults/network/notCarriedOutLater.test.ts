/** What fails before it is sent is not sent afterwards. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Schedule } from "effect"
import { QueryStateMachine, RedisStoreLive } from "effect-query-state"
import * as NatCluster from "../../support/NatCluster.ts"
import * as Proxy from "../../support/Proxy.ts"
import { freshKey } from "../../support/queries.ts"
import * as RedisServer from "../../support/RedisServer.ts"

const commandTimeout = "500 millis"

/** Enqueues a query in vain, and reads it when the server is there again. */
const enqueueInVain = <E1, E2>(goAway: Effect.Effect<unknown, E1>, comeBack: Effect.Effect<unknown, E2>) =>
  Effect.gen(function*() {
    const query = yield* QueryStateMachine.make(yield* freshKey)
    yield* query.currentState
    yield* goAway
    const error = yield* Effect.flip(query.enqueue)
    assert.include(["ConnectionLost", "TimedOut", "Unavailable"], error.reason._tag)
    yield* comeBack
    const state = yield* Effect.retry(query.currentState, Schedule.spaced("50 millis"))
    assert.strictEqual(state._tag, "Known")
    // What was kept would have been sent before this.
    yield* Effect.sleep("200 millis")
    assert.strictEqual((yield* query.currentState)._tag, "Known")
  })

it.live("a transition that fails while a cluster is away does not happen when it comes back", () =>
  Effect.gen(function*() {
    const { options, proxies } = yield* NatCluster.acquire(1)
    yield* enqueueInVain(
      Effect.forEach(proxies, ({ cut, refuse }) => Effect.andThen(refuse, cut("all"))),
      Effect.forEach(proxies, ({ pass }) => pass)
    ).pipe(Effect.provide(RedisStoreLive.layerCluster({ ...options, commandTimeout })))
  }).pipe(Effect.scoped))

it.live("a transition that fails while a connection is being made does not happen when it is made", () =>
  Effect.gen(function*() {
    const proxy = yield* Proxy.acquire(yield* RedisServer.acquire())
    yield* enqueueInVain(
      Effect.andThen(proxy.delay("1 second"), proxy.cut("all")),
      Effect.andThen(Effect.sleep("3 seconds"), proxy.pass)
    ).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(proxy.url), commandTimeout })))
  }).pipe(Effect.scoped))
