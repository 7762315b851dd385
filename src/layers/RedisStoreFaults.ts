/**
 * Store with injected faults, to test how a program handles them.
 *
 * @module
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as QueryKey from "../domain/QueryKey.ts"
import type { QueryRecord } from "../domain/QueryRecord.ts"
import { type Command, RedisStore } from "../services/RedisStore.ts"
import { type Failure, RedisStoreError } from "../services/RedisStoreError.ts"
import { Listeners } from "./internal/listeners.ts"
import * as Keys from "./internal/scripts/keys.ts"

/**
 * Call of the store, on one query, for which a fault can be injected. An operation on many queries is one call for each of
 * them, in order.
 *
 * @category models
 * @since 0.1.0
 */
export type Call =
  | { readonly operation: "compareAndSet"; readonly key: QueryKey.QueryKey; readonly command: Command }
  | { readonly operation: "read" | "renew" | "changes" | "history" | "results"; readonly key: QueryKey.QueryKey }

/**
 * Fault of a call.
 *
 * **Details**
 *
 * - `Fail`: the call fails, and is not carried out.
 * - `FailAfter`: the call is carried out, but fails: its answer is lost.
 * - `Delay`: the call is carried out later.
 * - `Hang`: the call is neither carried out nor answered.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault =
  | { readonly _tag: "Fail"; readonly reason: Failure }
  | { readonly _tag: "FailAfter"; readonly reason: Failure }
  | { readonly _tag: "Delay"; readonly duration: Duration.Input }
  | { readonly _tag: "Hang" }

/**
 * Controls of the faults.
 *
 * **Details**
 *
 * - `inject` chooses, from now on, the fault of each call; `undefined` lets a call pass.
 * - `injectNotifications` chooses, from now on, which records arrive instead of each record that is published. No record
 *   drops the notification, and two records duplicate it. `"gap"` stands for notifications that may have been lost. The
 *   record that a read passes on to listeners is no notification: it arrives as it is.
 * - `heal` removes all faults.
 * - `calls` lists the calls so far, oldest first.
 *
 * @category services
 * @since 0.1.0
 */
export class RedisStoreFaults extends Context.Service<RedisStoreFaults, {
  readonly inject: (choose: (call: Call) => Fault | undefined) => Effect.Effect<void>
  readonly injectNotifications: (
    choose: (record: QueryRecord) => ReadonlyArray<QueryRecord | "gap">
  ) => Effect.Effect<void>
  readonly heal: Effect.Effect<void>
  readonly calls: Effect.Effect<ReadonlyArray<Call>>
}>()("effect-query-state/layers/RedisStoreFaults") {}

/**
 * Wraps any store, and provides the controls of its faults. Every call passes until a fault is injected.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { RedisStoreError, RedisStoreFaults, RedisStoreMemory } from "effect-query-state"
 *
 * const outage = Effect.gen(function*() {
 *   const faults = yield* RedisStoreFaults.RedisStoreFaults
 *   yield* faults.inject(() => ({ _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) }))
 * })
 *
 * const StoreLayer = RedisStoreFaults.layer(RedisStoreMemory.layer)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(store: Layer.Layer<RedisStore, E, R>): Layer.Layer<RedisStore | RedisStoreFaults, E, R> =>
  Layer.effectContext(Effect.map(RedisStore, wrap)).pipe(Layer.provide(store))

const letPass = () => undefined
const asIs = (record: QueryRecord): ReadonlyArray<QueryRecord | "gap"> => [record]

const wrap = (store: RedisStore["Service"]): Context.Context<RedisStore | RedisStoreFaults> => {
  const calls: Array<Call> = []
  let choose: (call: Call) => Fault | undefined = letPass
  let chooseNotifications = asIs
  // The record of a read is no notification. It reaches the listeners even if notifications are dropped.
  const listeners = new Listeners()

  const disturbed = <A, E, R>(call: Call, pass: Effect.Effect<A, E, R>): Effect.Effect<A, E | RedisStoreError, R> =>
    Effect.suspend((): Effect.Effect<A, E | RedisStoreError, R> => {
      calls.push(call)
      const fault = choose(call)
      const fail = (reason: Failure) =>
        Effect.fail(new RedisStoreError({ operation: call.operation, key: call.key, reason }))
      switch (fault?._tag) {
        case undefined:
          return pass
        case "Fail":
          return fail(fault.reason)
        case "FailAfter":
          return Effect.andThen(Effect.exit(pass), fail(fault.reason))
        case "Delay":
          return Effect.delay(pass, fault.duration)
        case "Hang":
          return Effect.never
      }
    })

  const compareAndSet = (key: QueryKey.QueryKey, command: Command) =>
    disturbed({ operation: "compareAndSet", key, command }, store.compareAndSet(key, command))
  const read = (key: QueryKey.QueryKey) =>
    disturbed(
      { operation: "read", key },
      Effect.tap(store.read(key), (record) =>
        Effect.sync(() =>
          listeners.each(Keys.record("", key), (listener) => listener.onRecord(record, "read"))
        ))
    )

  return Context.make(
    RedisStore,
    RedisStore.of({
      compareAndSet: compareAndSet as RedisStore["Service"]["compareAndSet"],
      compareAndSetMany: Effect.forEach(([key, command]) => Effect.result(compareAndSet(key, command))),
      read,
      readMany: Effect.forEach((key) => Effect.result(read(key))),
      renew: (key, fence, lease, report) =>
        disturbed({ operation: "renew", key }, store.renew(key, fence, lease, report)),
      changes: (key, listener) =>
        disturbed(
          { operation: "changes", key },
          Effect.acquireRelease(
            Effect.sync(() => listeners.add(Keys.record("", key), key, listener)),
            () => Effect.sync(() => listeners.remove(Keys.record("", key), listener))
          ).pipe(Effect.andThen(store.changes(key, {
            onRecord: (record, source) => {
              // Each read is passed on above.
              if (source === "read") return
              for (const chosen of chooseNotifications(record)) {
                if (chosen === "gap") listener.onGap()
                else listener.onRecord(chosen, source)
              }
            },
            onGap: () => listener.onGap()
          })))
        ),
      keys: store.keys,
      databases: store.databases,
      history: (key) => disturbed({ operation: "history", key }, store.history(key)),
      currentTime: store.currentTime,
      results: (key) => disturbed({ operation: "results", key }, store.results(key)),
      hasTimeToLive: store.hasTimeToLive,
      hasResults: store.hasResults
    })
  ).pipe(Context.add(
    RedisStoreFaults,
    RedisStoreFaults.of({
      inject: (f) =>
        Effect.sync(() => {
          choose = f
        }),
      injectNotifications: (f) =>
        Effect.sync(() => {
          chooseNotifications = f
        }),
      heal: Effect.sync(() => {
        choose = letPass
        chooseNotifications = asIs
      }),
      calls: Effect.sync(() => [...calls])
    })
  ))
}
