/** Exit codes. */
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as QueryState from "../domain/QueryState.ts"

/** End of a command with an exit code other than 0. The message has been printed already. */
export class Ended extends Schema.TaggedError<Ended>("effect-query-state/cli/Ended")("Ended", { code: Schema.Int }) {
  override readonly [Runtime.errorExitCode] = this.code
  override readonly [Runtime.errorReported] = false
}

/** Something failed, or its result is unknown. */
export const failed = new Ended({ code: 1 })

/** A query was left alone, because its state does not allow the operation. */
export const refused = new Ended({ code: 2 })

/** The exit code of `show --exit-status` for a state. */
export const codeOf = (state: QueryState.QueryState): number => {
  if (QueryState.isPending(state)) return 3
  switch (state._tag) {
    case "Completed":
      return 0
    case "Known":
      return 5
    default:
      return 4
  }
}
