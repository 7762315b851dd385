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
  assertLawful(play)
  for (const call of play.calls) assertResult(call, play)
  assertOneHolderPerFence(play.calls)
}

/** Versions only go up, and from each record to the next leads the path of a command, or one edge of the lifecycle. */
const assertLawful = ({ calls, history }: Play<unknown, unknown>) => {
  const paths = new Map(
    calls.flatMap(({ command, result }) =>
      command !== "renew" && Result.isSuccess(result) && result.success.changed
        ? [[result.success.record.version, command.event] as const]
        : []
    )
  )
  for (const [index, record] of history.entries()) {
    const before = history[index - 1]
    if (before === undefined) continue
    const isForgotten = record.version === 0 && (before.state._tag === "Known" || before.keptUntil !== undefined)
    if (isForgotten) continue
    assert.isAbove(record.version, Math.max(...history.slice(0, index).map(({ version }) => version)))
    const path = paths.get(record.version)
    const isLawful = path === undefined
      ? Transition.edges.some(({ from, to }) => from === before.state._tag && to === record.state._tag)
      : endOf(before.state, path) === record.state._tag
    assert.isTrue(isLawful, `${before.state._tag} is followed by ${record.state._tag}`)
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
    assert.strictEqual(record.state._tag, endOf(before.state, command.event))
  } else {
    assert.deepStrictEqual(record, before)
  }
}

const isRefused = (
  { state, version }: QueryRecord.QueryRecord,
  { event, fence, ifVersion = version }: RedisStore.Command
) => {
  const isOthers = QueryState.claimOf(state)?.expiresAt !== undefined && fence === undefined
    && Transition.eventsOf(event)[0] !== "Cancel"
  return isOthers || ifVersion !== version || endOf(state, event) === undefined
}

/** Where a path leads, if it is valid. */
const endOf = (from: QueryState.QueryState, path: Transition.Path): QueryState.Tag | undefined =>
  Result.match(Transition.applyPath(from, path), {
    onFailure: () => undefined,
    onSuccess: (states) => states.at(-1)?._tag
  })

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
    case "RedisStoreError": {
      // An outcome that was not sent before its lease was over by the clock of its holder.
      const { operation, reason } = error
      if (operation !== "record the outcome of" || reason._tag !== "TimedOut") throw error
      return assert.isAtLeast(play.passedMillis, 0.9 * Duration.toMillis(lease), "the outcome could be recorded")
    }
    case "StillPending":
      throw error
  }
}
