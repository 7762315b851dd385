/** What `run` does, by what becomes of its query: each row of the table in `docs/queries.md` runs, and its cells are compared. */
import { assert } from "@effect/vitest"
import { Effect, Exit } from "effect"
import {
  QueryRecord,
  type QueryRun,
  type QueryState,
  type QueryStateMachine,
  Reason,
  RedisStoreFaults,
  type Transition
} from "effect-query-state"
import { readFileSync } from "node:fs"
import { inMemory } from "../support/inMemory.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"

/** How a query that others hold comes into the state of a row. */
interface Way {
  /** The pending state that it has before. */
  readonly from: QueryState.Pending["_tag"]
  /** What moves it on; its lease lapses where nothing does. */
  readonly path: Transition.Path | "lapse"
  readonly reason?: Reason.Reason
}

interface Row {
  readonly name: string
  readonly ways: ReadonlyArray<Way>
  readonly options?: Partial<QueryRun.Options<string, never, never, never, never, never, never, never, never>>
}

const failed = Reason.failed({ error: "SqlError", message: "deadlock" })

const rows: ReadonlyArray<Row> = [
  { name: "Known", ways: [{ from: "Resetting", path: "FinishReset" }] },
  {
    name: "Queued, Executing or Resetting",
    ways: [
      { from: "Queued", path: "Execute" },
      { from: "Executing", path: ["Finish", "Reset"] },
      { from: "Resetting", path: ["FinishReset", "Queue"] }
    ]
  },
  { name: "Completed, and the result is there", ways: [{ from: "Executing", path: "Finish" }] },
  {
    name: "Completed, and the result is gone",
    ways: [{ from: "Executing", path: "Finish" }],
    options: { result: Effect.succeedNone }
  },
  {
    name: "Completed, longer ago than `maxAge`",
    ways: [{ from: "Executing", path: "Finish" }],
    options: { maxAge: "1 second" }
  },
  {
    name: "Errored: the work failed",
    ways: [{ from: "Executing", path: "Error", reason: failed }, { from: "Executing", path: "Error" }]
  },
  { name: "Errored: the lease lapsed, and attempts are left", ways: [{ from: "Executing", path: "lapse" }] },
  {
    name: "Errored: the lease lapsed, and no attempts are left",
    ways: [{ from: "Executing", path: "lapse" }],
    options: { maxAttempts: 1 }
  },
  {
    name: "Cancelled on request",
    ways: (["Queued", "Executing"] as const).flatMap((from) => [
      { from, path: "Cancel", reason: Reason.requested({ by: "ada" }) },
      { from, path: "Cancel" }
    ])
  },
  {
    name: "Cancelled: the run was interrupted",
    ways: [{ from: "Executing", path: "Cancel", reason: Reason.interrupted }]
  },
  { name: "Cancelled: the lease lapsed while it was Queued", ways: [{ from: "Queued", path: "lapse" }] },
  {
    name: "ResetFailed: the purge failed",
    ways: [{ from: "Resetting", path: "Error", reason: failed }, { from: "Resetting", path: "Error" }]
  },
  {
    name: "ResetFailed: the purge was interrupted, or its lease lapsed",
    ways: [{ from: "Resetting", path: "Error", reason: Reason.interrupted }, { from: "Resetting", path: "lapse" }]
  }
]

/** The table says this of what `run` does when `recover` answers false, and when it answers true. */
const inWords = (without: string, recovering: string): string =>
  without === recovering ? without : `${without}, unless \`recover\` says to run it again`

const lease = "10 seconds"

const moveOn = (query: QueryStateMachine.QueryStateMachine, { path, reason }: Way) =>
  path === "lapse"
    ? Effect.void
    : Effect.gen(function*() {
      const { version } = yield* query.record
      yield* query.trigger(path, { fence: version, reason })
    })

const runOf = (
  query: QueryStateMachine.QueryStateMachine,
  timeline: Timeline.Timeline,
  { options }: Row,
  isRecovered: boolean
) =>
  query.run({
    execute: () => Effect.as(timeline.note("execute"), "executed"),
    result: Effect.succeedSome("fetched"),
    purge: () => timeline.note("purge"),
    recover: () => isRecovered,
    ...options
  })

const happened = (timeline: Timeline.Timeline, exit: Exit.Exit<string, QueryRun.Error> | undefined): string => {
  if (exit === undefined) return "waits"
  if (Exit.isSuccess(exit)) {
    const isPurged = timeline.only("purge").length > 0
    return exit.value === "fetched" ? "gets the result" : isPurged ? "runs it again" : "runs it"
  }
  const error = exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
  return `\`${error?._tag ?? assert.fail("it died")}\``
}

/** What `run` does with a query that is so when it begins. */
const whenFound = Effect.fnUntraced(function*(row: Row, way: Way, isRecovered: boolean) {
  const { query, timeline } = yield* queryThatIs(way.from, { lastStep: { lease } })
  yield* timeline.at(0, moveOn(query, way))
  const fiber = yield* timeline.at("1 minute", runOf(query, timeline, row, isRecovered))
  yield* timeline.until("2 minutes")
  return happened(timeline, fiber.pollUnsafe())
})

/** What `run` does with a query that becomes so while it waits. */
const whenWaitedFor = Effect.fnUntraced(function*(row: Row, way: Way, isRecovered: boolean) {
  const { query, timeline } = yield* queryThatIs(way.from, { lastStep: { lease } })
  // Without a notification, the wait notices later: a result may be older than `maxAge` then.
  const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
  yield* injectNotifications((record) => QueryRecord.isDeterminate(record) ? [] : [record])
  const fiber = yield* timeline.at(0, runOf(query, timeline, row, isRecovered))
  yield* timeline.at("1 second", moveOn(query, way))
  yield* timeline.until("2 minutes")
  return happened(timeline, fiber.pollUnsafe())
})

/** A cell of the table: the same for each way into the state. */
const cellOf = Effect.fnUntraced(function*(row: Row, probe: typeof whenFound) {
  const cells = yield* Effect.forEach(
    row.ways,
    (way) => Effect.zipWith(probe(row, way, false), probe(row, way, true), inWords)
  )
  const [cell = "", ...others] = new Set(cells)
  assert.deepStrictEqual(others, [], `${row.name} differs by the way into it`)
  return cell
})

const head = "| the query is | if `run` finds it so | if `run` waited for it |"

const tableIn = (page: string): ReadonlyArray<string> => {
  const lines = readFileSync(page, "utf8").split("\n").map((line) => line.replaceAll(/ +/g, " "))
  const start = lines.indexOf(head)
  const end = lines.findIndex((line, index) => index > start && !line.startsWith("|"))
  // Below the head there is a line of dashes.
  return start === -1 ? [] : lines.slice(start + 2, end)
}

inMemory("the table of what run does says what it does", () =>
  Effect.gen(function*() {
    const table = yield* Effect.forEach(rows, (row) =>
      Effect.all([cellOf(row, whenFound), cellOf(row, whenWaitedFor)]).pipe(
        Effect.map(([found, waitedFor]) =>
          `| ${row.name} | ${found} | ${waitedFor} |`
        )
      ))
    assert.deepStrictEqual(tableIn("docs/queries.md"), table)
  }))
