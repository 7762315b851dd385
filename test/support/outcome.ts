/**
 * How an effect ended, as plain data: compared as errors, two of them differ by their message alone.
 */
import { Exit } from "effect"

export type Failing = { readonly failed: unknown } | { readonly died: unknown } | "interrupted"

export type Outcome = { readonly succeeded: unknown } | ReadonlyArray<Failing>

export const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Outcome =>
  Exit.isSuccess(exit) ? { succeeded: exit.value } : exit.cause.reasons.map((reason) => {
    switch (reason._tag) {
      case "Fail":
        return { failed: fieldsOf(reason.error) }
      case "Die":
        return { died: fieldsOf(reason.defect) }
      case "Interrupt":
        return "interrupted"
    }
  })

export const failedWith = (error: unknown): ReadonlyArray<Failing> => [{ failed: fieldsOf(error) }]

const fieldsOf = (value: unknown): unknown =>
  value instanceof Error
    ? {
      message: value.message,
      ...Object.fromEntries(Object.entries(value).map(([key, field]) => [key, fieldsOf(field)]))
    }
    : value
