/** For how long records are kept, by the state that they are in. */
import * as Effect from "effect/Effect"
import type * as QueryState from "../../../domain/QueryState.ts"
import type { KeepOptions } from "../../../services/RedisStore.ts"
import { InvalidInput, RedisStoreError } from "../../../services/RedisStoreError.ts"
import { isMillis, toMillis } from "../command.ts"

/** In milliseconds; a state without an entry is kept for ever. */
export type Keep = Partial<Record<QueryState.Tag, number>>

export const forever: Keep = {}

const options = [["Completed", "completed"], ["Errored", "failed"], [
  "Cancelled",
  "cancelled"
]] as const satisfies ReadonlyArray<
  readonly [QueryState.Tag, keyof KeepOptions]
>

const invalid = (issue: string) =>
  new RedisStoreError({ operation: "configure the store", reason: new InvalidInput({ issue }) })

/** Checks the options, where there are any. */
export const checkOption = Effect.fnUntraced(function*(keep: KeepOptions | undefined) {
  const checked: { -readonly [S in keyof Keep]: number } = {}
  if (keep === undefined) return checked
  if (typeof keep !== "object" || keep === null) return yield* invalid("keep must be an object")
  for (const [tag, option] of options) {
    const duration = keep[option]
    if (duration === undefined) continue
    const millis = toMillis(duration)
    if (!isMillis(millis)) return yield* invalid(`keep.${option} must be longer than zero and finite`)
    checked[tag] = millis
  }
  return checked
})
