/** What the runs of queries left behind, in the memory of this process. */
import * as DateTime from "effect/DateTime"
import type { QueryRecord } from "../../../domain/QueryRecord.ts"
import type { ResultAction, Results } from "../../../services/RedisStore.ts"

interface Kept extends Results {
  readonly untilMillis: number
}

const none: Kept = { untilMillis: Number.POSITIVE_INFINITY }

/** Does with the results of queries what the scripts do. */
export class MemoryResults {
  private readonly byId = new Map<string, Kept>()

  get(id: string, nowMillis: number): Results {
    const { untilMillis, ...results } = this.byId.get(id) ?? none
    if (nowMillis < untilMillis) return results
    this.byId.delete(id)
    return {}
  }

  /** Does what a command says that has led to a record. */
  act(id: string, action: ResultAction, { keptUntil, state, version }: QueryRecord, nowMillis: number): void {
    if (action._tag === "Drop") this.byId.delete(id)
    if (action._tag !== "Leave") return
    const left = { version, text: action.text }
    const { untilMillis } = this.byId.get(id) ?? none
    this.byId.set(
      id,
      state._tag === "Completed"
        ? { success: left, untilMillis: keptUntil === undefined ? none.untilMillis : DateTime.toEpochMillis(keptUntil) }
        : { ...this.get(id, nowMillis), failure: left, untilMillis }
    )
  }
}
