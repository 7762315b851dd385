/** Text for JSON values that is the same wherever the values are. */
import type * as Schema from "effect/Schema"

/** Writes JSON with the keys of each object in order. */
export const canonical = (json: Schema.Json): string => JSON.stringify(ordered(json))

const ordered = (json: Schema.Json): Schema.Json => {
  if (Array.isArray(json)) return json.map(ordered)
  if (typeof json !== "object" || json === null) return json
  return Object.fromEntries(
    Object.entries(json).toSorted(([a], [b]) => a < b ? -1 : 1).map(([key, value]) => [key, ordered(value)])
  )
}

/** Shows JSON to people: values alone, and those of objects with their names where there are several. */
export const label = (json: Schema.Json): string => {
  if (typeof json === "string") return json
  if (typeof json !== "object" || json === null) return JSON.stringify(json)
  if (Array.isArray(json)) return json.map(label).join(", ")
  const entries = Object.entries(json)
  return entries.length === 1
    ? label(entries[0]?.[1] ?? null)
    : entries.map(([name, value]) => `${name}: ${label(value)}`).join(", ")
}
