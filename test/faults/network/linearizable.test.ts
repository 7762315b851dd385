import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { QueryKey, QueryState } from "effect-query-state"
import { runChaos } from "../../support/chaos/Chaos.ts"
import { type Change, type Entry, violations } from "../../support/chaos/linearizability.ts"

const seed = Number(process.env["SEED"] ?? Date.now())

it.live(`all answers to many clients whose connections break fit one history (SEED=${seed})`, () =>
  Effect.gen(function*() {
    const { violations } = yield* runChaos({ seed, duration: "4 seconds" })
    assert.deepStrictEqual(violations, [])
  }))

// The check is no check if it lets pass what cannot be true.
const key = QueryKey.makeUnsafe({ db: "d", query: "q" })
const log: ReadonlyArray<Change> = [{ version: 10, tag: "Queued" }, { version: 20, tag: "Executing" }]
const answered = (
  event: "Queue" | "Execute",
  tag: QueryState.Tag,
  version: number,
  changed: boolean,
  began: number
): Entry => ({
  key,
  call: { _tag: "CompareAndSet", command: { event } },
  outcome: { _tag: "Answer", record: { key, state: QueryState.make(tag), version, attempts: 0 }, changed },
  began,
  ended: began + 1
})
const queued = answered("Queue", "Queued", 10, true, 0)
const executing = answered("Execute", "Executing", 20, true, 2)

const unanswered = (event: "Queue" | "Execute", began: number): Entry => ({
  key,
  call: { _tag: "CompareAndSet", command: { event } },
  outcome: { _tag: "Unknown" },
  began,
  ended: began + 1
})

it("the checker accepts a possible history", () => {
  assert.deepStrictEqual(violations(log, [queued, executing, answered("Queue", "Executing", 20, false, 4)]), [])
  assert.deepStrictEqual(violations(log, [queued, unanswered("Execute", 2)]), [])
})

it.each<[what: string, log: ReadonlyArray<Change>, entries: ReadonlyArray<Entry>]>([
  ["a change that no answer reports", log, [queued]],
  ["a change known before its only possible cause was sent", log, [
    queued,
    answered("Queue", "Executing", 20, false, 2),
    unanswered("Execute", 4)
  ]],
  ["a change that two clients won", log, [queued, executing, answered("Execute", "Executing", 20, true, 4)]],
  ["a change that was never made", log, [queued, executing, answered("Execute", "Executing", 30, true, 4)]],
  ["a refusal of a legal event", log, [queued, executing, answered("Execute", "Queued", 10, false, 1)]],
  ["an answer older than an earlier answer", log, [queued, executing, answered("Queue", "Queued", 10, false, 4)]],
  ["a version that comes twice", [...log, { version: 20, tag: "Completed" }], [queued, executing]],
  ["an edge that the lifecycle does not have", [...log, { version: 30, tag: "Known" }], [queued, executing]]
])("the checker finds %s", (_, log, entries) => {
  assert.isNotEmpty(violations(log, entries))
})
