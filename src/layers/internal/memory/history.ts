/** The last transitions of queries, in the memory of this process. */
import * as DateTime from "effect/DateTime"
import type { HistoryEntry } from "../../../domain/HistoryEntry.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import { type History, reasonIn } from "../scripts/history.ts"
import type { Move } from "./lifecycle.ts"

const entryOf = ({ after, before, event }: Move, nowMillis: number): HistoryEntry => {
  const holder = QueryState.claimOf(after.state)?.holder ?? QueryState.claimOf(before.state)?.holder
  return {
    at: DateTime.makeUnsafe(nowMillis),
    version: after.version,
    event,
    from: before.state._tag,
    to: after.state._tag,
    ...(holder === undefined ? undefined : { holder }),
    ...reasonIn(after.state)
  }
}

/** Keeps the last entries of each query, and deletes those of a query that has not moved for `retention`. */
export class MemoryHistory {
  // The query that moved last comes last.
  private readonly byId = new Map<string, { readonly entries: ReadonlyArray<HistoryEntry>; readonly until: number }>()
  private readonly options: History

  constructor(options: History) {
    this.options = options
  }

  get(id: string, nowMillis: number): ReadonlyArray<HistoryEntry> {
    this.forget(nowMillis)
    return this.byId.get(id)?.entries ?? []
  }

  add(id: string, move: Move, nowMillis: number): void {
    const entries = [...this.get(id, nowMillis), entryOf(move, nowMillis)].slice(-this.options.length)
    this.byId.delete(id)
    this.byId.set(id, { entries, until: nowMillis + this.options.retentionMillis })
  }

  private forget(nowMillis: number): void {
    for (const [id, { until }] of this.byId) {
      if (nowMillis < until) return
      this.byId.delete(id)
    }
  }
}
