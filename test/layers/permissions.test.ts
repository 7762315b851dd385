import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Stream } from "effect"
import { QueryFleet, QueryKey, QueryStateMachine, RedisStoreFlowMachine, RedisStoreLive } from "effect-query-state"
import { Redis } from "ioredis"
import { readFileSync } from "node:fs"
import * as RedisServer from "../support/RedisServer.ts"

/** The rules of access that a page names, behind some words. */
const rulesIn = (page: string, words: string) =>
  Array.from(
    readFileSync(page, "utf8").split(words)[1]?.split(/\n\n|\n\d/)[0]?.matchAll(/`([^`]*)`/g) ?? [],
    ([, rule = ""]) => rule.split(/\s+/)
  ).flat().filter((rule) => /^[~&+]/.test(rule))

const key = QueryKey.makeUnsafe({ db: "warehouse", query: "stock" })

/** Everything that the library ever asks of Redis. */
const everything = Effect.gen(function*() {
  const query = yield* QueryStateMachine.make(key)
  const fleet = yield* QueryFleet.make
  yield* query.enqueue
  const waiter = yield* Effect.forkChild(query.waitUntilComplete(), { startImmediately: true })
  yield* query.executing(() => Effect.sleep("1 second"), { lease: "2 seconds" })
  const { state } = yield* Fiber.join(waiter)
  yield* query.resetting(() => Effect.void)
  yield* query.trigger("Queue", { lease: "1 millis" })
  const lapsed = yield* Effect.repeat(query.currentState, { until: ({ _tag }) => _tag === "Cancelled" })
  const listed = yield* Stream.runCollect(fleet.list(key.db))
  return [state._tag, lapsed._tag, listed.map(({ key }) => key)]
})

it.live.each([
  { page: "README.md", words: "The user of Redis needs", layer: RedisStoreLive.layer },
  {
    page: "docs/flowmachine.md",
    words: "The user of Redis for the TypeScript process needs",
    layer: RedisStoreFlowMachine.layer
  }
])(
  "a user with the permissions that $page names can do everything",
  ({ layer, page, words }) =>
    Effect.gen(function*() {
      const { host, port, url } = yield* RedisServer.acquire()
      const admin = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (admin) => Effect.sync(() => admin.disconnect())
      )
      yield* Effect.promise(() => admin.call("ACL", "SETUSER", "app", "on", ">secret", ...rulesIn(page, words)))
      const StoreLayer = layer({ url: Redacted.make(`redis://app:secret@${host}:${port}`) })
      assert.deepStrictEqual(yield* Effect.provide(everything, StoreLayer), ["Completed", "Cancelled", [key]])
      assert.deepStrictEqual(yield* Effect.promise(() => admin.call("ACL", "LOG")), [])
    })
)
