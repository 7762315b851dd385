/** A process is killed at every point of its work, at each point with another query. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Context, DateTime, Effect, Fiber, Layer, Redacted, Ref, Result, Schedule } from "effect"
import { type QueryRecord, QueryState, QueryStateMachine, Reason, RedisStoreLive, Transition } from "effect-query-state"
import { inject } from "vitest"
import type { Step, Task } from "../../fixtures/workerProtocol.ts"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RawRecord from "../../support/RawRecord.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as WorkerProcess from "../../support/WorkerProcess.ts"

interface Death {
  readonly by: Task["by"]
  /** What the query is when the process comes to it: `lapsed` is Cancelled, since a lease lapsed. */
  readonly found: "Known" | "Queued" | "Completed" | "lapsed"
  readonly killed: Step
  /** What the process leaves the query in. */
  readonly left: QueryState.Tag
}

const deathsOf = (
  by: Task["by"],
  found: Death["found"],
  left: ReadonlyArray<readonly [Step, QueryState.Tag]>
): ReadonlyArray<Death> => left.map(([killed, left]) => ({ by, found, killed, left }))

const executing = [
  ["after Execute", "Executing"],
  ["in work", "Executing"],
  ["before Finish", "Executing"],
  ["after Finish", "Completed"]
] as const

const resetting = [
  ["after Reset", "Resetting"],
  ["in purge", "Resetting"],
  ["before FinishReset", "Resetting"],
  ["after FinishReset", "Known"]
] as const

const renewing = (during: QueryState.Tag) => [["before renew", during], ["after renew", during]] as const

const deaths = [
  ...deathsOf("executing", "Queued", [["before Execute", "Queued"], ...executing, ...renewing("Executing")]),
  ...deathsOf("resetting", "Completed", [["before Reset", "Completed"], ...resetting, ...renewing("Resetting")]),
  ...deathsOf("run", "Known", [["before Execute", "Known"], ...executing, ...renewing("Executing")]),
  ...deathsOf("run", "lapsed", [
    ["before Execute", "Cancelled"],
    ["before Reset", "Cancelled"],
    ["after Reset", "Resetting"],
    ["in purge", "Resetting"],
    ...executing
  ])
]

const leaseMillis = 1000
const lease = `${leaseMillis} millis` as const

/** What the process left behind, as it was when it was just dead, and a wait for it that began then. */
interface Remains {
  readonly query: QueryStateMachine.QueryStateMachine
  readonly holder: string
  readonly diedAtMillis: number
  readonly raw: RawRecord.Raw
  readonly waiter: Fiber.Fiber<QueryRecord.Determinate, unknown>
}

const prepare = Effect.fnUntraced(function*(death: Death, holder: string) {
  const key = yield* freshKey
  const query = yield* QueryStateMachine.make(key)
  const isRenewing = death.killed.endsWith("renew")
  const pausesAt: ReadonlyArray<Step> = isRenewing ? [death.killed, "in work", "in purge"] : [death.killed]
  const task: Task = { key, by: death.by, leaseMillis, pausesAt }
  switch (death.found) {
    case "Known":
      return task
    case "Completed":
      yield* driveTo(key, "Completed")
      return task
    case "Queued": {
      const { state } = yield* query.trigger("Queue", { holder, lease })
      return { ...task, fence: QueryState.claimOf(state)?.fence }
    }
    case "lapsed":
      yield* query.trigger("Queue", { holder, lease: "1 millis" })
      yield* query.waitUntilComplete()
      return task
  }
})

class Killed extends Context.Service<Killed, ReadonlyMap<Death, Remains>>()("test/faults/Killed") {
  static readonly layer = Layer.effect(
    Killed,
    Effect.gen(function*() {
      const redis = yield* RedisAdmin.connect(inject("redisUrl"))
      const { holder, kill, reached, start } = yield* WorkerProcess.spawn(inject("redisUrl"))
      const tasks = yield* Effect.forEach(deaths, (death) => prepare(death, holder), { concurrency: "unbounded" })
      yield* start(tasks)
      yield* Effect.forEach(Arr.zip(deaths, tasks), ([{ killed }, { key }]) => reached(key, killed))
      yield* kill
      const diedAtMillis = yield* RawRecord.serverMillis(redis)

      const remains = yield* Effect.forEach(tasks, ({ key }) =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(key)
          const raw = yield* RawRecord.look(redis, key)
          // In this test nothing but the end of the lease wakes it.
          const waiter = yield* Effect.forkScoped(query.waitUntilComplete({ schedule: Schedule.spaced("1 hour") }))
          return { query, holder, diedAtMillis, raw, waiter }
        }))
      return new Map(Arr.zip(deaths, remains))
    })
  )
}

const remainsOf = (death: Death) =>
  Effect.map(Killed, (killed) => killed.get(death) ?? assert.fail("there are no remains"))

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })

const settled = ({ left }: Death, holder: string): QueryState.QueryState => {
  const reason = Reason.leaseExpired(holder)
  const state = QueryState.make(left, { reason })
  return QueryState.isPending(state)
    ? Result.getOrThrow(Transition.apply(state, Transition.lapseEvents[state._tag], { reason }))
    : state
}

it.layer(Layer.provideMerge(Killed.layer, StoreLayer), { excludeTestServices: true })("A process", (it) => {
  it.effect.each(deaths)(
    "that is killed $killed, by $by of a query found $found, leaves it $left no longer than its lease",
    (death) =>
      Effect.gen(function*() {
        const { diedAtMillis, holder, query, raw, waiter } = yield* remainsOf(death)
        assert.strictEqual(raw.state ?? "known", QueryState.wireNames[death.left])

        const { changedAt, state } = yield* Fiber.join(waiter)
        assert.deepStrictEqual(state, settled(death, holder))
        if (raw.expiresAtMillis > 0) {
          assert.isAtMost(raw.expiresAtMillis, diedAtMillis + leaseMillis)
          assert.isAtLeast(changedAt === undefined ? 0 : DateTime.toEpochMillis(changedAt), raw.expiresAtMillis)
        }

        const purges = yield* Ref.make(0)
        const value = yield* query.run({
          purge: () => Ref.update(purges, (n) => n + 1),
          execute: () => Effect.succeed("executed again"),
          result: Effect.succeedSome("fetched")
        })
        assert.deepStrictEqual(
          [value, yield* Ref.get(purges), yield* query.currentState],
          [
            state._tag === "Completed" ? "fetched" : "executed again",
            "reason" in state ? 1 : 0,
            QueryState.completed
          ]
        )
      })
  )
})
