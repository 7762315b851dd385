/** What the runs of queries left behind, in the memory of this process. */
import * as DateTime from "effect/DateTime"
import type { QueryRecord } from "../../../domain/QueryRecord.ts"
import type { ResultAction, Results } from "../../../services/RedisStore.ts"

interface Kept extends Results {
  readonly untilMillis: number
}

/** Does with the results of queries what the scripts do. */
export class MemoryResults {
  private readonly byId = new Map<string, Kept>()

  get(id: string, nowMillis: number): Results {
    const { untilMillis, ...results } = this.byId.get(id) ?? { untilMillis: Number.POSITIVE_INFINITY }
    if (nowMillis < untilMillis) return results
    this.byId.delete(id)
    return {}
  }

  /** Does what a command says that has led to a record. */
  act(id: string, action: ResultAction, { keptUntil, state, version }: QueryRecord, nowMillis: number): void {
    if (action._tag === "Drop") this.byId.delete(id)
    if (action._tag !== "Leave") return
    const left = { version, text: action.text }
    const untilMillis = keptUntil === undefined ? Number.POSITIVE_INFINITY : DateTime.toEpochMillis(keptUntil)
    const { success } = this.get(id, nowMillis)
    if (state._tag === "Completed" || success === undefined) {
      this.byId.set(id, { [state._tag === "Completed" ? "success" : "failure"]: left, untilMillis })
      return
    }
    // One expiry serves both, as in Redis: a failure must not shorten that of the last success.
    const before = this.byId.get(id)?.untilMillis ?? untilMillis
    this.byId.set(id, { success, failure: left, untilMillis: Math.max(before, untilMillis) })
  }
}
