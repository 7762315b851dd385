/** How a command ends, for scripts. */
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as QueryState from "../domain/QueryState.ts"

/** End of a command, all having been said, with an exit code that is not 0. */
export class Ended extends Schema.TaggedError<Ended>("effect-query-state/cli/Ended")("Ended", { code: Schema.Int }) {
  override readonly [Runtime.errorExitCode] = this.code
  override readonly [Runtime.errorReported] = false
}

/** Something could not be done, or it is not known whether it was. */
export const failed = new Ended({ code: 1 })

/** A query was left as it was, because it is not in a state for what was asked. */
export const refused = new Ended({ code: 2 })

/** What `show --exit-status` tells of a state. */
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
