/**
 * Reason why a query is Errored, Cancelled or ResetFailed.
 *
 * @module
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import { cut } from "./internal/cut.ts"
import { printable } from "./internal/printable.ts"

/**
 * Maximum lengths of the texts of a reason, in UTF-16 code units. Longer texts are cut and end in `…`.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxLength: { readonly name: number; readonly message: number; readonly detail: number } = {
  name: 200,
  message: 1_000,
  detail: 4_000
}

const Name = Schema.String.check(Schema.isMaxLength(maxLength.name))
const Message = Schema.String.check(Schema.isMaxLength(maxLength.message))
const Detail = Schema.String.check(Schema.isMaxLength(maxLength.detail))

const Cases = Schema.TaggedUnion({
  Failed: { error: Name, message: Message, detail: Schema.optionalKey(Detail) },
  Requested: { by: Schema.optionalKey(Name), note: Schema.optionalKey(Message) },
  Interrupted: {},
  LeaseExpired: { holder: Schema.optionalKey(Schema.String) },
  Unrecorded: {}
})

/**
 * Schema for reasons.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Reason = Cases.pipe(Schema.brand("effect-query-state/Reason"))

/**
 * Why a query became Errored, Cancelled or ResetFailed.
 *
 * **Details**
 *
 * - `Failed`: the work or the purge failed. It holds the name and message of the error, and the whole cause as text.
 * - `Requested`: a person or program asked for it.
 * - `Interrupted`: the fiber that did the work was interrupted.
 * - `LeaseExpired`: the holder did not renew its lease in time.
 * - `Unrecorded`: the transition recorded no reason.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * Creates the reason for a failure, and cuts texts that are too long.
 *
 * @category constructors
 * @since 0.1.0
 */
export const failed = (options: {
  readonly error: string
  readonly message: string
  readonly detail?: string | undefined
}): Reason =>
  Reason.make({
    _tag: "Failed",
    error: cut(options.error, maxLength.name),
    message: cut(options.message, maxLength.message),
    ...(options.detail === undefined ? undefined : { detail: cut(options.detail, maxLength.detail) })
  })

/**
 * Creates the reason for a request, and cuts texts that are too long.
 *
 * @category constructors
 * @since 0.1.0
 */
export const requested = (options?: {
  readonly by?: string | undefined
  readonly note?: string | undefined
}): Reason =>
  Reason.make({
    _tag: "Requested",
    ...(options?.by === undefined ? undefined : { by: cut(options.by, maxLength.name) }),
    ...(options?.note === undefined ? undefined : { note: cut(options.note, maxLength.message) })
  })

/**
 * Reason for work whose fiber was interrupted.
 *
 * @category constructors
 * @since 0.1.0
 */
export const interrupted: Reason = Reason.make({ _tag: "Interrupted" })

/**
 * Creates the reason for a lease that lapsed.
 *
 * @category constructors
 * @since 0.1.0
 */
export const leaseExpired = (holder?: string | undefined): Reason =>
  Reason.make({ _tag: "LeaseExpired", ...(holder === undefined ? undefined : { holder }) })

/**
 * Reason for a state whose transition recorded none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unrecorded: Reason = Reason.make({ _tag: "Unrecorded" })

// Any value may have been thrown: a text that cannot be read from it is left out, and nothing throws here.
const readText = (read: () => unknown): string | undefined => {
  try {
    const text = read()
    return typeof text === "string" ? text : undefined
  } catch {
    return undefined
  }
}

const isObject = (error: unknown): error is object => typeof error === "object" && error !== null

const errorName = (error: unknown): string =>
  readText(() => isObject(error) && "_tag" in error && error._tag)
    ?? readText(() => isObject(error) && error.constructor.name)
    ?? typeof error

const errorMessage = (error: unknown): string =>
  readText(() => error instanceof Error && error.message) ?? readText(() => String(error)) ?? "unreadable error"

/**
 * Creates the reason for a `Cause`: `Interrupted` if it holds only interruptions, else `Failed` with the first error or
 * defect. The detail is the whole cause as text, cut if too long.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromCause = (cause: Cause.Cause<unknown>): Reason => {
  if (Cause.hasInterruptsOnly(cause)) return interrupted
  const error = Cause.squash(cause)
  return failed({
    error: errorName(error),
    message: errorMessage(error),
    detail: readText(() => Cause.pretty(cause))
  })
}

/**
 * Formats a reason for people, on one line and without its detail.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: Reason): string => {
  switch (self._tag) {
    case "Failed":
      return `${name(self.error)}: ${message(self.message)}`
    case "Requested":
      return `requested${self.by === undefined ? "" : ` by ${name(self.by)}`}${
        self.note === undefined ? "" : `: ${message(self.note)}`
      }`
    case "Interrupted":
      return "its fiber was interrupted"
    case "LeaseExpired":
      return `the lease${self.holder === undefined ? "" : ` of ${name(self.holder)}`} lapsed`
    case "Unrecorded":
      return "no reason was recorded"
  }
}

const name = (text: string): string => printable(text, maxLength.name)
const message = (text: string): string => printable(text, maxLength.message)
