/**
 * A process that completes queries and publishes messages when `wakeUp` orders it, and answers when it began.
 *
 * Times are by the system's monotonic clock, which all processes of a machine share.
 */
import { Effect, Queue, Redacted } from "effect"
import { QueryKey, QueryStateMachine, type RedisStore, RedisStoreLive } from "effect-query-state"
import * as Bull from "./bull.ts"
import { connect } from "./Server.ts"

export interface Order {
  readonly what: "complete" | "job" | "publish" | "script"
  readonly name: string
}

// The least completion that notifies others.
const completeByHand = `
if redis.call("GET", KEYS[1]) == "queued" then
  redis.call("SET", KEYS[1], "completed")
  redis.call("PUBLISH", KEYS[1], "completed")
end
`

const [url = ""] = process.argv.slice(2)

const serve = Effect.gen(function*() {
  const raw = yield* connect(url)
  const sha = `${yield* Effect.promise(() => raw.script("LOAD", completeByHand))}`
  const context = yield* Effect.context<RedisStore.RedisStore>()

  const publish = (name: string) =>
    Effect.promise(async () => {
      const begun = process.hrtime.bigint()
      await raw.publish(name, "")
      return begun
    })

  // A worker with one job at a time, which ends on an order. The server has a job as active before the worker begins it.
  const jobs = yield* Queue.unbounded<() => void>()
  yield* Effect.promise(() => Bull.worker(url, 1, () => new Promise<void>((end) => Queue.offerUnsafe(jobs, end))))
  const job = () =>
    Effect.map(Queue.take(jobs), (end) => {
      const begun = process.hrtime.bigint()
      end()
      return begun
    })

  const script = (name: string) =>
    Effect.promise(async () => {
      const begun = process.hrtime.bigint()
      await raw.evalsha(sha, 1, name)
      return begun
    })

  const complete = (name: string) =>
    Effect.gen(function*() {
      const query = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db: "bench", query: name }))
      const begun = process.hrtime.bigint()
      yield* query.cancel
      return begun
    })

  process.on("message", ({ name, what }: Order) => {
    void Effect.runPromiseWith(context)({ complete, job, publish, script }[what](name)).then((begun) =>
      process.send?.(`${begun}`)
    )
  })
  process.send?.("ready")
  yield* Effect.callback<void>((resume) => {
    process.once("disconnect", () => resume(Effect.void))
  })
})

await serve.pipe(
  Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })),
  Effect.scoped,
  Effect.runPromise
)
