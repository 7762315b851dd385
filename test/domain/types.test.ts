/**
 * What does not compile, and what the compiler infers. `npm run check:types` is what these tests run under.
 */
import { assert, expectTypeOf, it } from "@effect/vitest"
import type { Result } from "effect"
import { QueryError, type QueryEvent, QueryKey, QueryState, Transition } from "effect-query-state"

const known = QueryState.known
const queued = QueryState.make("Queued")
const executing = QueryState.make("Executing")
const completed = QueryState.completed
const resetting = QueryState.make("Resetting")
const anyState: () => QueryState.QueryState = () => executing

it("a step accepts exactly the states of the table", () => {
  type Taken<Step extends (state: never) => unknown> = Parameters<Step>[0]
  expectTypeOf<Taken<typeof Transition.enqueue>>().toEqualTypeOf<QueryState.Known>()
  expectTypeOf<Taken<typeof Transition.execute>>().toEqualTypeOf<QueryState.Queued>()
  expectTypeOf<Taken<typeof Transition.finish>>().toEqualTypeOf<QueryState.Executing>()
  expectTypeOf<Taken<typeof Transition.raiseError>>().toEqualTypeOf<QueryState.Executing | QueryState.Resetting>()
  expectTypeOf<Taken<typeof Transition.cancel>>().toEqualTypeOf<QueryState.Queued | QueryState.Executing>()
  expectTypeOf<Taken<typeof Transition.reset>>().toEqualTypeOf<
    QueryState.Completed | QueryState.Errored | QueryState.Cancelled | QueryState.ResetFailed
  >()
  expectTypeOf<Taken<typeof Transition.finishResetting>>().toEqualTypeOf<QueryState.Resetting>()
})

it("a wrong step does not compile, and throws when it is forced", () => {
  const wrong = [
    // @ts-expect-error -- Known is queued first
    () => Transition.execute(known),
    // @ts-expect-error -- Queued is executed first
    () => Transition.finish(queued),
    // @ts-expect-error -- Executing was queued already
    () => Transition.enqueue(executing),
    // @ts-expect-error -- Completed has nothing to cancel
    () => Transition.cancel(completed),
    // @ts-expect-error -- Resetting cannot be cancelled
    () => Transition.cancel(resetting),
    // @ts-expect-error -- Executing is not reset under its holder
    () => Transition.reset(executing),
    // @ts-expect-error -- Completed is reset first
    () => Transition.finishResetting(completed)
  ]
  for (const step of wrong) assert.throws(step, QueryError.IllegalTransition)
  // @ts-expect-error -- any state may be one that does not take the step
  assert.deepStrictEqual(Transition.finish(anyState()), completed)
})

it("a step answers with the next state, and steps compose", () => {
  expectTypeOf(Transition.finish(executing)).toEqualTypeOf<QueryState.Completed>()
  expectTypeOf(Transition.raiseError(executing)).toEqualTypeOf<QueryState.Errored>()
  expectTypeOf(Transition.raiseError(resetting)).toEqualTypeOf<QueryState.ResetFailed>()
  const life = Transition.finishResetting(Transition.reset(Transition.finish(Transition.execute(
    Transition.enqueue(known)
  ))))
  expectTypeOf(life).toEqualTypeOf<QueryState.Known>()
  assert.strictEqual(life, known)
})

it("the table is available as types", () => {
  expectTypeOf<Transition.Next<"Queued", "Execute">>().toEqualTypeOf<"Executing">()
  expectTypeOf<Transition.Next<"Executing", "Error">>().toEqualTypeOf<"Errored">()
  expectTypeOf<Transition.Next<"Resetting", "Error">>().toEqualTypeOf<"ResetFailed">()
  expectTypeOf<Transition.Next<"Executing" | "Resetting", "Error">>().toEqualTypeOf<"Errored" | "ResetFailed">()
  expectTypeOf<Transition.Next<"Known", "Execute">>().toBeNever()
  expectTypeOf<Transition.Next<QueryState.Tag, QueryEvent.QueryEvent>>().toEqualTypeOf<QueryState.Tag>()
  expectTypeOf<Transition.From<"Cancel">>().toEqualTypeOf<"Queued" | "Executing">()
  expectTypeOf(Transition.apply).returns.toEqualTypeOf<
    Result.Result<QueryState.QueryState, QueryError.IllegalTransition>
  >()
  // @ts-expect-error -- there is no such state
  expectTypeOf<Transition.Next<"Paused", "Queue">>().toBeNever()
  // @ts-expect-error -- there is no such event
  expectTypeOf<Transition.Next<"Known", "Pause">>().toBeNever()
})

it("a switch over the states is exhaustive and sees the fields of each", () => {
  const label = (state: QueryState.QueryState): string => {
    switch (state._tag) {
      case "Known":
      case "Completed":
        return state._tag
      case "Queued":
      case "Executing":
      case "Resetting":
        return `${state._tag} by ${state.claim?.holder ?? "nobody"}`
      case "Errored":
      case "Cancelled":
      case "ResetFailed":
        return `${state._tag}: ${state.reason._tag}`
    }
  }
  // @ts-expect-error -- without a case for the others, something must be answered for them
  const partial = (state: QueryState.QueryState): string => {
    switch (state._tag) {
      case "Known":
        return state._tag
    }
  }
  assert.deepStrictEqual([label(queued), label(QueryState.make("Errored"))], [
    "Queued by nobody",
    "Errored: Unrecorded"
  ])
  assert.isUndefined(partial(queued))
})

it("the predicates narrow", () => {
  const state = anyState()
  if (QueryState.isPending(state)) expectTypeOf(state).toEqualTypeOf<QueryState.Pending>()
  else expectTypeOf(state).toEqualTypeOf<QueryState.Determinate>()
  if (QueryState.isDeterminate(state)) expectTypeOf(state).toEqualTypeOf<QueryState.Determinate>()
  else expectTypeOf(state).toEqualTypeOf<QueryState.Pending>()
})

it("a plain object is not a state, an id or a key", () => {
  // @ts-expect-error -- a state is made by this library
  const state: QueryState.QueryState = { _tag: "Known" }
  // @ts-expect-error -- a key is made of checked ids
  const key: QueryKey.QueryKey = { db: "warehouse", query: "totals" }
  const { db, query } = QueryKey.makeUnsafe({ db: "warehouse", query: "totals" })
  // @ts-expect-error -- the id of a database is not that of a query
  const swapped: QueryKey.QueryKey = { db: query, query: db }
  expectTypeOf({ db, query }).toExtend<QueryKey.QueryKey>()
  assert.deepStrictEqual<ReadonlyArray<unknown>>([state, key, swapped], [
    known,
    { db, query },
    { db: query, query: db }
  ])
})

it("a state shows its own fields only", () => {
  expectTypeOf<QueryState.Executing["claim"]>().toEqualTypeOf<QueryState.Claim | undefined>()
  // @ts-expect-error -- a Completed query has no claim
  expectTypeOf<QueryState.Completed["claim"]>().toBeUnknown()
  // @ts-expect-error -- there is no reason for being queued
  expectTypeOf<QueryState.Queued["reason"]>().toBeUnknown()
})
