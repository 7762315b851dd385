/** Validates ids and keys, for the schemas, and for callers without types. */

export const maxIdBytes = 512

const encoder = new TextEncoder()

// A UTF-16 code unit takes one to three bytes.
const isTooLong = (id: string): boolean =>
  id.length > maxIdBytes || (id.length * 3 > maxIdBytes && encoder.encode(id).length > maxIdBytes)

/** Why a text that is not empty cannot be an id. */
export const textIssue = (id: string): string | undefined => {
  if (isTooLong(id)) return `must be at most ${maxIdBytes} bytes of UTF-8`
  return id.isWellFormed() ? undefined : "must be well-formed Unicode (it holds a lone surrogate)"
}

/** Why a value cannot be the id with this name. */
export const idIssue = (name: "db" | "query", id: unknown): string | undefined => {
  if (typeof id !== "string") return `the id ${name} must be a string`
  if (id === "") return `the id ${name} must not be empty`
  const issue = textIssue(id)
  return issue === undefined ? undefined : `the id ${name} ${issue}`
}

/** Why a value cannot be a query key. */
export const keyIssue = (key: unknown): string | undefined => {
  if (typeof key !== "object" || key === null) return "a query key must be an object, as QueryKey.make creates it"
  const { db, query }: { readonly db?: unknown; readonly query?: unknown } = key
  return idIssue("db", db) ?? idIssue("query", query)
}
