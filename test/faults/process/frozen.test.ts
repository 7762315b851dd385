/** A process is frozen past its leases while others continue, and then resumes. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Redacted, type Scope } from "effect"
import { QueryState, QueryStateMachine, Reason, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import type { News, Step, Task } from "../../fixtures/workerProtocol.ts"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RawRecord from "../../support/RawRecord.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as WorkerProcess from "../../support/WorkerProcess.ts"

type Query = QueryStateMachine.QueryStateMachine

/** What happens to a query while its holder is frozen. `finish` is what remains to do after the holder resumes. */
type Meanwhile = (query: Query, redis: Redis) => Effect.Effect<{ finish: Effect.Effect<string> }, never, Scope.Scope>

const isRunByAnother: Meanwhile = Effect.fnUntraced(function*(query) {
  const claimed = yield* Deferred.make<void>()
  const mayFinish = yield* Deferred.make<void>()
  const work = Effect.andThen(Deferred.succeed(claimed, undefined), Deferred.await(mayFinish))
  const running = yield* Effect.forkScoped(query.run({
    lease: "1 hour",
    execute: () => Effect.as(work, "of another"),
    result: Effect.succeedSome("of the zombie")
  }))
  yield* Deferred.await(claimed)
  return { finish: Effect.andThen(Deferred.succeed(mayFinish, undefined), Effect.orDie(Fiber.join(running))) }
})

const wasRunByAnother: Meanwhile = Effect.fnUntraced(function*(query, redis) {
  const { finish } = yield* isRunByAnother(query, redis)
  return { finish: Effect.succeed(yield* finish) }
})

const isDeletedAnd = (then: Meanwhile): Meanwhile => (query, redis) =>
  Effect.andThen(RawRecord.remove(redis, query.key), then(query, redis))

const isSeenByNobody: Meanwhile = () => Effect.succeed({ finish: Effect.succeed("of nobody") })

const meanwhiles: Readonly<Record<string, Meanwhile>> = {
  isRunByAnother,
  wasRunByAnother,
  isDeletedAndRunByAnother: isDeletedAnd(isRunByAnother),
  wasDeletedAndRunByAnother: isDeletedAnd(wasRunByAnother),
  isSeenByNobody
}

interface Zombie {
  readonly by: "executing" | "resetting"
  /** Where it stands when its process begins to stand still. */
  readonly at: Step | "blocking"
  readonly meanwhile: string
}

const zombies = Object.keys(meanwhiles).flatMap((meanwhile): ReadonlyArray<Zombie> => [
  { by: "executing", at: "in work", meanwhile },
  { by: "executing", at: "before Finish", meanwhile },
  { by: "resetting", at: "in purge", meanwhile },
  { by: "resetting", at: "before FinishReset", meanwhile }
])

const taskOf = Effect.fnUntraced(function*({ at, by }: Zombie) {
  const key = yield* freshKey
  yield* driveTo(key, by === "executing" ? "Queued" : "Completed")
  const task: Task = { key, by, leaseMillis: 1000 }
  return at === "blocking" ? { ...task, blocks: true } : { ...task, pausesAt: [at] }
})

/** The reports that a zombie sends. */
const reportsOf = ({ at }: Zombie): ReadonlyArray<News["kind"]> => {
  switch (at) {
    case "blocking":
      return ["claimed", "worked", "ended"]
    case "in work":
    case "in purge":
      return ["claimed", "reached", "interrupted", "ended"]
    default:
      return ["claimed", "worked", "reached", "ended"]
  }
}

/** What becomes of its query in the end, and of whom is the outcome. */
const becomes = ({ by, meanwhile }: Zombie, holder: string) =>
  meanwhile !== "isSeenByNobody"
    ? { state: QueryState.completed, outcome: "of another" }
    : {
      state: QueryState.make(by === "resetting" ? "ResetFailed" : "Errored", { reason: Reason.leaseExpired(holder) }),
      outcome: "of nobody"
    }

interface Standstill {
  readonly how: string
  readonly zombies: ReadonlyArray<Zombie>
  readonly begin: (worker: WorkerProcess.Worker) => Effect.Effect<void>
  readonly end: (worker: WorkerProcess.Worker) => Effect.Effect<void>
}

const standstills: ReadonlyArray<Standstill> = [
  { how: "stopped", zombies, begin: ({ freeze }) => freeze, end: ({ thaw }) => thaw },
  ...["isRunByAnother", "isDeletedAndRunByAnother", "isSeenByNobody"].map((meanwhile): Standstill => ({
    how: `blocked (${meanwhile})`,
    zombies: [...zombies.filter(({ meanwhile }) => meanwhile === "isRunByAnother"), {
      by: "executing",
      at: "blocking",
      meanwhile
    }],
    begin: () => Effect.void,
    end: ({ unblock }) => unblock
  }))
]

it.layer(RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) }), { excludeTestServices: true })(
  "A process",
  (it) => {
    it.effect.each(standstills)(
      "that is $how past its leases writes nothing when it resumes, and gets LeaseLost",
      ({ begin, end, zombies }) =>
        Effect.gen(function*() {
          const redis = yield* RedisAdmin.connect(inject("redisUrl"))
          const worker = yield* WorkerProcess.spawn(inject("redisUrl"))
          const { holder, newsOf, reached, release, news, start } = worker

          const stories = yield* Effect.forEach(zombies, (zombie) =>
            Effect.gen(function*() {
              const task = yield* taskOf(zombie)
              yield* start([task])
              yield* zombie.at === "blocking" ? news(task.key, "claimed") : reached(task.key, zombie.at)
              const { fence } = yield* news(task.key, "claimed")
              return { zombie, fence, query: yield* QueryStateMachine.make(task.key) }
            }))
          yield* begin(worker)

          const lapsed = yield* Effect.forEach(stories, (story) =>
            Effect.gen(function*() {
              const { query, zombie: { meanwhile } } = story
              yield* RawRecord.lapse(redis, query.key)
              const { finish } = yield* meanwhiles[meanwhile]?.(query, redis) ?? assert.fail()
              const left = yield* RawRecord.position(redis, query.key)
              return { ...story, finish, left }
            }), { concurrency: "unbounded" })
          yield* Effect.forEach(stories, ({ query }) => release(query.key))
          yield* end(worker)

          yield* Effect.forEach(lapsed, ({ fence, finish, left, query, zombie }) =>
            Effect.gen(function*() {
              const { outcome } = yield* news(query.key, "ended")
              assert.deepStrictEqual(outcome, { _tag: "Failed", error: "LeaseLost", fence })
              assert.deepStrictEqual(newsOf(query.key).map(({ kind }) => kind), reportsOf(zombie))
              if (zombie.meanwhile !== "isSeenByNobody") {
                assert.deepStrictEqual(yield* RawRecord.position(redis, query.key), left)
              }
              assert.deepStrictEqual(
                { outcome: yield* finish, state: yield* query.currentState },
                becomes(zombie, holder)
              )
            }))
        })
    )
  }
)
