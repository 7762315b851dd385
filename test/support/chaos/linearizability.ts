/**
 * Records the answers that many clients got, and checks that they fit one history of each query.
 *
 * The log of a query is what Redis published, in its order: every change is in it. Each answer must fit into that log,
 * and into the order of the calls.
 */
import { Effect } from "effect"
import {
  type QueryError,
  QueryEvent,
  type QueryKey,
  type QueryRecord,
  QueryState,
  type RedisStore,
  type RedisStoreError,
  Transition
} from "effect-query-state"

/** A change of a query, as it was published. */
export interface Change {
  readonly version: number
  readonly tag: QueryState.Tag
}

export type Call =
  | { readonly _tag: "CompareAndSet"; readonly command: RedisStore.Command }
  | { readonly _tag: "Renew"; readonly fence: number }
  | { readonly _tag: "Read" }

export type Outcome =
  | { readonly _tag: "Answer"; readonly record: QueryRecord.QueryRecord; readonly changed: boolean }
  | { readonly _tag: "LeaseLost"; readonly record: QueryRecord.QueryRecord }
  /** It may or may not have happened. */
  | { readonly _tag: "Unknown" }

/** A call, its outcome, and when it began and ended, by one counter for all clients. */
export interface Entry {
  readonly key: QueryKey.QueryKey
  readonly call: Call
  readonly outcome: Outcome
  readonly began: number
  readonly ended: number
}

export class Recorder {
  readonly entries: Array<Entry> = []
  private count = 0

  /** Performs a call, and records its outcome. */
  readonly note = Effect.fnUntraced(function*(
    this: Recorder,
    key: QueryKey.QueryKey,
    call: Call,
    effect: Effect.Effect<RedisStore.CommandResult, RedisStoreError.RedisStoreError | QueryError.LeaseLost>
  ): Effect.fn.Return<Outcome> {
    const began = this.count++
    const outcome = yield* Effect.match(effect, {
      onSuccess: (answer): Outcome => ({ _tag: "Answer", ...answer }),
      onFailure: (error): Outcome =>
        error._tag === "LeaseLost" ? { _tag: "LeaseLost", record: error.record } : { _tag: "Unknown" }
    })
    this.entries.push({ key, call, outcome, began, ended: this.count++ })
    return outcome
  })
}

const showCall = (call: Call) => call._tag === "CompareAndSet" ? call.command.event : call._tag

const recordOf = ({ outcome }: Entry) => outcome._tag === "Unknown" ? undefined : outcome.record

const isChange = ({ outcome }: Entry) => outcome._tag === "Answer" && outcome.changed

/** Where the lapse of a lease leads from a state, if it is pending. */
const lapsed = (from: QueryState.Tag): QueryState.Tag | undefined => {
  const event = Object.entries(Transition.lapseEvents).find(([tag]) => tag === from)?.[1]
  return event === undefined ? undefined : Transition.next(from, event)
}

/** The states in which a call can find a query: that of the last change, and where a lapse leads from it. */
const foundBy = (from: QueryState.Tag, canLapse: boolean): ReadonlyArray<QueryState.Tag> => {
  const to = canLapse ? lapsed(from) : undefined
  return to === undefined ? [from] : [from, to]
}

/** Whether a path leads from one of the states to another. */
const leadsTo = (from: ReadonlyArray<QueryState.Tag>, path: Transition.Path, to: QueryState.Tag) =>
  from.some((tag) => Transition.next(tag, path) === to)

/**
 * Lists all changes of a query that its lifecycle does not have. A change is made by one of the paths, and by the lapse of
 * a lease before it: a script that makes several transitions publishes the last one.
 */
export const unlawful = (
  log: ReadonlyArray<Change>,
  paths: ReadonlyArray<Transition.Path> = QueryEvent.all
): ReadonlyArray<string> =>
  log.flatMap(({ tag, version }, index) => {
    const previous = log[index - 1]
    const from = previous?.tag ?? "Known"
    return [
      ...(previous !== undefined && version <= previous.version ? [`version ${version} is not a new one`] : []),
      ...(paths.some((path) => leadsTo(foundBy(from, true), path, tag))
        ? []
        : [`version ${version}: no event leads from ${from} to ${tag}`])
    ]
  })

/** Lists the contradictions in the answers on one query. */
export const violations = (log: ReadonlyArray<Change>, entries: ReadonlyArray<Entry>): ReadonlyArray<string> => {
  const found = [...unlawful(log)]
  const byVersion = new Map(log.map((change, index) => [change.version, { ...change, index }]))
  const before = (index: number): QueryState.Tag => log[index - 1]?.tag ?? "Known"

  const statesBefore = (index: number) => foundBy(before(index), true)

  const winners = new Map<number, Entry>()
  for (const entry of entries) {
    const { call, outcome } = entry
    const record = recordOf(entry)
    if (record === undefined || outcome._tag === "Unknown") continue
    const { state, version } = record
    const what = `${showCall(call)}, answered ${outcome._tag} with ${state._tag}, version ${version}`
    if (version === 0 ? state._tag !== "Known" : byVersion.get(version)?.tag !== state._tag) {
      found.push(`${what}: there is no such change`)
    }
    const fence = call._tag === "Read" ? undefined : call._tag === "Renew" ? call.fence : call.command.fence
    if (outcome._tag === "LeaseLost") {
      const isHeld = version === fence && (call._tag === "CompareAndSet" || QueryState.isPending(state))
      if (isHeld) found.push(`${what}: the claim is held`)
    } else if (isChange(entry) && call._tag === "CompareAndSet") {
      const change = byVersion.get(version)
      if (winners.has(version)) found.push(`${what}: another call won it`)
      winners.set(version, entry)
      if (change !== undefined && !leadsTo(statesBefore(change.index), call.command.event, state._tag)) {
        found.push(`${what}: it does not lead there from ${before(change.index)}`)
      }
    } else if (call._tag === "CompareAndSet") {
      const isOthers = fence === undefined && QueryState.claimOf(state)?.expiresAt !== undefined
      if (Transition.next(state._tag, call.command.event) !== undefined && !isOthers) {
        found.push(`${what}: refused, though it is accepted there`)
      }
    }
  }

  // No answer has an older version than an answer that was complete before the call.
  const byEnd = entries.toSorted((left, right) => left.ended - right.ended).values()
  let next = byEnd.next()
  let known = 0
  const knownBefore = new Map<Entry, number>()
  for (const entry of entries.toSorted((left, right) => left.began - right.began)) {
    while (next.done !== true && next.value.ended < entry.began) {
      known = Math.max(known, recordOf(next.value)?.version ?? 0)
      next = byEnd.next()
    }
    knownBefore.set(entry, known)
    const version = recordOf(entry)?.version ?? known
    if (version < known) found.push(`${showCall(entry.call)}: got version ${version}, when ${known} was known`)
  }

  // Every change was won by a call, or may come from a call with unknown outcome, or is a lapse.
  const unknown = entries.filter(({ call, outcome }) => call._tag === "CompareAndSet" && outcome._tag === "Unknown")
  // Also a renewal whose answer was lost: it was sent again, and may have found its own lease lapsed.
  const renewed = new Set(entries.map(({ call }) => call._tag === "Renew" && call.fence))
  const isLeased = (version = 0) => {
    const winner = winners.get(version)
    const wasGiven = winner?.call._tag === "CompareAndSet" && winner.call.command.lease !== undefined
    return winner === undefined || wasGiven || renewed.has(version)
  }
  log.forEach(({ tag, version }, index) => {
    const from = before(index)
    const canLapse = isLeased(log[index - 1]?.version)
    const winner = winners.get(version)
    if (winner?.call._tag === "CompareAndSet") {
      const isOfLapse = Transition.next(from, winner.call.command.event) !== tag
      if (isOfLapse && !canLapse) found.push(`version ${version}: no lease could lapse in ${from}`)
      return
    }
    if (canLapse && lapsed(from) === tag) return
    const doubtful = unknown.findIndex((entry) =>
      entry.call._tag === "CompareAndSet" && leadsTo(foundBy(from, canLapse), entry.call.command.event, tag) &&
      (knownBefore.get(entry) ?? 0) < version
    )
    if (doubtful < 0) found.push(`version ${version}: no call moved the query from ${from} to ${tag}`)
    else unknown.splice(doubtful, 1)
  })
  return found
}
