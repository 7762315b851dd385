import { assert, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { QueryError, QueryEvent, QueryKey, QueryRecord, QueryState, Reason, Transition } from "effect-query-state"

const pairs = QueryState.tags.flatMap((from) => QueryEvent.all.map((event) => ({ from, event })))

const Data = Schema.Struct({
  claim: Schema.optionalKey(QueryState.Claim),
  reason: Schema.optionalKey(Reason.Reason)
})

/** A step that can be forced on a state which it does not accept. */
type Step = (state: never, data?: QueryState.Data) => QueryState.QueryState

const steps: { readonly [E in QueryEvent.QueryEvent]: Step } = {
  Queue: Transition.enqueue,
  Execute: Transition.execute,
  Finish: Transition.finish,
  Error: Transition.raiseError,
  Cancel: Transition.cancel,
  Reset: Transition.reset,
  FinishReset: Transition.finishResetting
}

const force = (event: QueryEvent.QueryEvent, state: QueryState.QueryState, data?: QueryState.Data) =>
  Result.try(() => steps[event](state as never, data))

const isIllegal = Schema.is(QueryError.IllegalTransition)

/** The fields of an illegal transition: two errors compare only by their message. */
const told = (error: unknown) => isIllegal(error) ? { ...error } : error

/** Walks along the edges for as long as they lead to something new. */
const reachableFrom = (start: string, edges: Iterable<{ readonly from: string; readonly to: string }>) => {
  const reached = new Set([start])
  for (const state of reached) {
    for (const { from, to } of edges) if (from === state) reached.add(to)
  }
  return reached
}

it("these are all edges of the lifecycle", () => {
  assert.deepStrictEqual(Transition.edges.map(({ event, from, to }) => `${from} --${event}--> ${to}`), [
    "Known --Queue--> Queued",
    "Queued --Execute--> Executing",
    "Queued --Cancel--> Cancelled",
    "Executing --Finish--> Completed",
    "Executing --Error--> Errored",
    "Executing --Cancel--> Cancelled",
    "Completed --Reset--> Resetting",
    "Errored --Reset--> Resetting",
    "Cancelled --Reset--> Resetting",
    "Resetting --Error--> ResetFailed",
    "Resetting --FinishReset--> Known",
    "ResetFailed --Reset--> Resetting"
  ])
})

it.each(pairs)("table, edges, next state and sources agree on $from and $event", ({ event, from }) => {
  const row: Readonly<Record<string, QueryState.Tag>> = Transition.table[from]
  const to = row[event]
  const edges = Transition.edges.filter((edge) => edge.from === from && edge.event === event)
  assert.deepStrictEqual(edges, to === undefined ? [] : [{ from, event, to }])
  assert.strictEqual(Transition.next(from, event), to)
  assert.strictEqual(Transition.sources(event).includes(from), to !== undefined)
})

it("every state can be reached from every other", () => {
  for (const tag of QueryState.tags) {
    assert.deepStrictEqual(reachableFrom(tag, Transition.edges), new Set([tag, ...QueryState.tags]))
  }
})

it.prop(
  "apply and the typed steps follow the table with any fields and refuse all else",
  [QueryState.QueryState, Data],
  ([state, data]) => {
    for (const event of QueryEvent.all) {
      const from = state._tag
      const to = Transition.next(from, event)
      const refusal = new QueryError.IllegalTransition({ from, event, acceptedIn: Transition.sources(event) })
      const expected = to === undefined ? Result.fail(told(refusal)) : Result.succeed(QueryState.make(to, data))
      assert.deepStrictEqual(Result.mapError(Transition.apply(state, event, data), told), expected)
      assert.deepStrictEqual(Result.mapError(force(event, state, data), told), expected)
    }
  },
  { arbitrary: { runs: 300 } }
)

it.each(Object.entries(Transition.lapseEvents))("a lapse ends %s by %s with a reason", (from, event) => {
  const reason = Reason.leaseExpired("worker 1")
  const state = Result.getOrThrow(Transition.apply(QueryState.make(from as QueryState.Tag), event, { reason }))
  assert.isTrue(QueryState.isDeterminate(state))
  assert.deepStrictEqual("reason" in state && state.reason, reason)
})

it("a lapse ends every pending state", () => {
  const isPending = (tag: QueryState.Tag) => QueryState.isPending(QueryState.make(tag))
  assert.deepStrictEqual(Object.keys(Transition.lapseEvents), QueryState.tags.filter(isPending))
})

it("a refusal carries the record and the states that accept the event", () => {
  const record = QueryRecord.absent(QueryKey.makeUnsafe({ db: "warehouse", query: "daily totals" }))
  assert.deepStrictEqual(told(Transition.refusal(record, "Reset")), {
    _tag: "IllegalTransition",
    from: "Known",
    event: "Reset",
    acceptedIn: ["Completed", "Errored", "Cancelled", "ResetFailed"],
    record
  })
})

it("the diagram has every edge once, starts at Known, reaches all states, and marks the pending ones", () => {
  const [kind, ...lines] = Transition.toMermaid().split("\n").map((line) => line.trim())
  const arrows = lines.flatMap((line) => {
    const [, from = "", to = "", event] = /^(\S+) --> (\w+)(?:: (\w+))?$/.exec(line) ?? []
    return to === "" ? [] : [{ from, to, event }]
  })
  assert.strictEqual(kind, "stateDiagram-v2")
  assert.sameDeepMembers(arrows, [{ from: "[*]", to: "Known", event: undefined }, ...Transition.edges])
  assert.deepStrictEqual(reachableFrom("[*]", arrows), new Set(["[*]", ...QueryState.tags]))
  assert.deepStrictEqual(lines.filter((line) => line.startsWith("class ")), [
    "class Queued,Executing,Resetting pending"
  ])
})

const Path = Schema.Tuple([QueryEvent.QueryEvent]).pipe((one) => Schema.TupleWithRest(one, [QueryEvent.QueryEvent]))

it.prop(
  "a path leads where its events lead one after the other, and is refused where one of them is",
  [QueryState.QueryState, Path, Data],
  ([state, path, data]) => {
    const expected: Array<QueryState.QueryState> = []
    let refused: unknown
    for (const event of path) {
      const result = Transition.apply(expected.at(-1) ?? state, event, data)
      if (Result.isFailure(result)) {
        refused = told(result.failure)
        break
      }
      expected.push(result.success)
    }
    const applied = Result.mapError(Transition.applyPath(state, path, data), told)
    assert.deepStrictEqual(applied, refused === undefined ? Result.succeed(expected) : Result.fail(refused))
    assert.strictEqual(Transition.next(state._tag, path), refused === undefined ? expected.at(-1)?._tag : undefined)
  }
)

// A number stands for an event that the state accepts, so that walks become long.
const Walk = Schema.Array(
  Schema.Struct({
    nth: Schema.Literals([0, 1]),
    reason: Schema.UndefinedOr(Schema.Literals(["interrupted", "requested"]))
  })
)

const reasons = { interrupted: Reason.interrupted, requested: Reason.requested({ by: "ada" }) }

it.prop("attempts count the executions since the last Finish that were not interrupted", [Walk], ([walk]) => {
  let from: QueryState.Tag = "Known"
  let attempts = 0
  const executions: Array<QueryState.Tag> = []
  for (const { nth, reason } of walk) {
    const accepted = Transition.edges.filter((edge) => edge.from === from)
    const edge: Transition.Edge = accepted[nth % accepted.length] ?? assert.fail(`no event leads out of ${from}`)
    const { event, to } = edge
    if (to === "Executing") executions.push(to)
    if (to === "Completed") executions.length = 0
    if (from === "Executing" && to === "Cancelled" && reason === "interrupted") executions.pop()
    attempts = Transition.attemptsAfter(attempts, event, from, reason && reasons[reason])
    assert.strictEqual(attempts, executions.length)
    from = to
  }
}, { arbitrary: { runs: 300, size: 50 } })

const AnyReason = Schema.UndefinedOr(Reason.Reason)
const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 }))

it.prop(
  "attempts never go below zero, whatever happens to a query",
  [Count, Schema.Array(Schema.Tuple([QueryEvent.QueryEvent, Schema.Literals(QueryState.tags), AnyReason]))],
  ([count, happened]) => {
    let attempts = count
    for (const [event, from, reason] of happened) {
      const before = attempts
      attempts = Transition.attemptsAfter(before, event, from, reason)
      assert.isAtLeast(attempts, 0)
      assert.isAtMost(Math.abs(attempts - before), event === "Finish" ? before : 1)
    }
  }
)
