/**
 * What the subscriptions of every `RedisStore` do. The test file of each store calls `suite`.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, type Layer, Scope } from "effect"
import { type QueryKey, type QueryRecord, RedisStore } from "effect-query-state"
import * as Notifications from "../support/Notifications.ts"
import { driveTo, freshKey, life } from "../support/queries.ts"

/** Moves a query on by its next step of a life, and answers the record. */
const moveOn = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
  const store = yield* RedisStore.RedisStore
  for (const event of life) {
    const { changed, record } = yield* store.compareAndSet(key, { event })
    if (changed) return record
  }
  return yield* Effect.die("A query that can be moved on by nothing")
})

/** The versions up to that of a record, which is known to come. */
const versionsUntil = Effect.fnUntraced(
  function*(changes: Notifications.Notifications, { version }: QueryRecord.QueryRecord) {
    const versions: Array<number> = []
    while (versions.at(-1) !== version) versions.push(yield* changes.next)
    return versions
  }
)

export const suite = (
  name: string,
  layer: Layer.Layer<RedisStore.RedisStore, unknown>,
  { announcesAll = true, excludeTestServices }: {
    readonly excludeTestServices: boolean
    /** False when other writers send no notifications. The store itself always sends them. */
    readonly announcesAll?: boolean
  }
) =>
  it.layer(layer, { excludeTestServices, timeout: "30 seconds" })(`RedisStore.changes (${name})`, (it) => {
    it.effect("the record of each change after the subscription has returned arrives", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        for (let round = 0; round < 25; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const changes = yield* Notifications.subscribe(key)
            assert.strictEqual(changes.announcesAll, announcesAll)
            for (let step = 0; step < 3; step++) {
              const { version } = yield* moveOn(key)
              assert.strictEqual(yield* changes.next, version)
            }
          }))
        }
      }))

    it.effect("a notification wakes a reader that already waits for it", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const changes = yield* Notifications.subscribe(key)
        const waiting = yield* Effect.forkChild(changes.next, { startImmediately: true })
        const { version } = yield* moveOn(key)
        assert.strictEqual(yield* Fiber.join(waiting), version)
      }))

    it.effect("a reader that is interrupted while it waits takes no notification", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const changes = yield* Notifications.subscribe(key)
        yield* Fiber.interrupt(yield* Effect.forkChild(changes.next, { startImmediately: true }))
        const { version } = yield* moveOn(key)
        assert.strictEqual(yield* changes.next, version)
      }))

    it.effect("refused commands and renewals send no notification", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version } = yield* driveTo(key, "Executing", { lease: "1 hour" })
        const changes = yield* Notifications.subscribe(key)
        yield* store.compareAndSet(key, { event: "Queue" })
        yield* store.compareAndSet(key, { event: "Finish" })
        yield* Effect.exit(store.compareAndSet(key, { event: "Finish", fence: version - 1 }))
        yield* store.renew(key, version, "2 hours")
        const { record } = yield* store.compareAndSet(key, { event: "Cancel" })
        assert.deepStrictEqual(yield* versionsUntil(changes, record), [record.version])
      }))

    it.effect("a subscription gets no notifications of other queries", () =>
      Effect.gen(function*() {
        const [key, other] = yield* Effect.all([freshKey, freshKey])
        const changes = yield* Notifications.subscribe(key)
        const otherChanges = yield* Notifications.subscribe(other)
        yield* versionsUntil(otherChanges, yield* moveOn(other))
        const record = yield* moveOn(key)
        assert.deepStrictEqual(yield* versionsUntil(changes, record), [record.version])
      }))

    it.effect("a subscription that closes does not affect the others, and can be opened again", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const stays = yield* Notifications.subscribe(key)
        for (let round = 0; round < 10; round++) {
          const scope = yield* Scope.make()
          yield* Scope.provide(Notifications.subscribe(key), scope)
          yield* Scope.close(scope, Exit.void)
          const returns = yield* Notifications.subscribe(key)
          const record = yield* moveOn(key)
          yield* versionsUntil(stays, record)
          yield* versionsUntil(returns, record)
        }
      }))

    it.effect("a subscription that opens after all were closed gets each change from then on", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        for (let round = 0; round < 50; round++) {
          yield* Effect.scoped(Notifications.subscribe(key))
          yield* Effect.scoped(Effect.gen(function*() {
            const changes = yield* Notifications.subscribe(key)
            yield* versionsUntil(changes, yield* moveOn(key))
          }))
        }
      }))
  })
