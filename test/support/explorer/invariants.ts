/**
 * What holds in every play of every program: the lifecycle allows the history, and every answer fits it.
 */
import { assert } from "@effect/vitest"
import { Duration, Result } from "effect"
import {
  type QueryError,
  type QueryRecord,
  type QueryRun,
  QueryState,
  type RedisStore,
  Transition
} from "effect-query-state"
import type { Play } from "./Explorer.ts"
import type { Call } from "./SteppedStore.ts"

export const assertInvariants = (play: Play<unknown, unknown>): void => {
  assertLawful(play.history)
  for (const call of play.calls) assertResult(call, play)
  assertOneHolderPerFence(play.calls)
}

/** Versions only go up, and one edge of the lifecycle leads from each record to the next. */
const assertLawful = (history: Play<unknown, unknown>["history"]) => {
  for (const [index, record] of history.entries()) {
    const before = history[index - 1]
    if (before === undefined) continue
    const isForgotten = record.version === 0 && before.state._tag === "Known"
    if (isForgotten) continue
    assert.isAbove(record.version, Math.max(...history.slice(0, index).map(({ version }) => version)))
    const edge = Transition.edges.find(({ from, to }) => from === before.state._tag && to === record.state._tag)
    assert.isDefined(edge, `${before.state._tag} is followed by ${record.state._tag}`)
  }
}

/** The result of a command is what it found and did. */
const assertResult = ({ before, command, fence, result }: Call, { history }: Play<unknown, unknown>) => {
  if (Result.isFailure(result)) {
    const { failure } = result
    if (failure._tag !== "LeaseLost") throw failure
    assert.deepStrictEqual({ ...failure }, { _tag: "LeaseLost", fence: fence ?? Number.NaN, record: before })
    assert.notStrictEqual(before.version, fence, "a claim that was lost is not held")
    return
  }
  const { changed, record } = result.success
  if (command === "renew") {
    assert.deepStrictEqual([record.version, QueryState.isPending(record.state)], [fence, true])
    return
  }
  assert.strictEqual(changed, !isRefused(before, command), `${command.event} on ${before.state._tag}`)
  if (changed) {
    assert.deepStrictEqual(history.filter(({ version }) => version === record.version), [record])
    assert.strictEqual(record.state._tag, Transition.next(before.state._tag, command.event))
  } else {
    assert.deepStrictEqual(record, before)
  }
}

const isRefused = (
  { state, version }: QueryRecord.QueryRecord,
  { event, fence, ifVersion = version }: RedisStore.Command
) => {
  const isOthers = QueryState.claimOf(state)?.expiresAt !== undefined && fence === undefined && event !== "Cancel"
  return isOthers || ifVersion !== version || Transition.next(state._tag, event) === undefined
}

/** Each version is given to one actor, and each fence is used by one actor. */
const assertOneHolderPerFence = (calls: ReadonlyArray<Call>) => {
  const holders = new Map<number, number>()
  for (const { actor, fence, result } of calls) {
    if (Result.isFailure(result)) continue
    const { changed, record: { version } } = result.success
    if (fence !== undefined) assert.strictEqual(holders.get(fence) ?? actor, actor, `fence ${fence} has one holder`)
    if (!changed) continue
    assert.isFalse(holders.has(version), `version ${version} was written once`)
    holders.set(version, actor)
  }
}

/** The errors of a run or a reset, apart from those of the work. */
export type Failure = QueryRun.Error | QueryError.IllegalTransition

/** An error is right: its state occurred with its reason, and no claim was given up early. */
export const assertFailureHolds = (error: Failure, play: Play<unknown, unknown>, lease: Duration.Input): void => {
  const assertHappened = (state: QueryState.QueryState) =>
    assert.deepInclude(play.history.map(({ state }) => state), state)
  switch (error._tag) {
    case "QueryErrored":
      return assertHappened(QueryState.make("Errored", { reason: error.reason }))
    case "QueryCancelled":
      return assertHappened(QueryState.make("Cancelled", { reason: error.reason }))
    case "QueryResetFailed":
      return assertHappened(QueryState.make("ResetFailed", { reason: error.reason }))
    case "IllegalTransition":
      return assert.deepInclude(play.calls.map(({ before }) => before), error.record)
    case "LeaseLost": {
      const hasMovedOn = error.record.version !== error.fence
      return assert.isTrue(hasMovedOn || play.passedMillis >= 0.9 * Duration.toMillis(lease), "the claim could be kept")
    }
    case "StillPending":
    case "RedisStoreError":
      throw error
  }
}
