/** The ids of queries: equal payloads are one query, in whatever order their keys come. */
import { assert, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import { Query, QueryKey } from "effect-query-state"
import { canonical } from "../../src/services/internal/canonical.ts"

const Keys = Schema.Array(Schema.String)

/** The same JSON, with the keys of all objects the other way round. */
const reversed = (json: Schema.Json): Schema.Json => {
  if (Array.isArray(json)) return json.map(reversed)
  if (typeof json !== "object" || json === null) return json
  return Object.fromEntries(Object.entries(json).toReversed().map(([key, value]) => [key, reversed(value)]))
}

it.effect.prop(
  "JSON is written the same whatever the order of its keys, also nested, and is read back as it was",
  [Schema.Json],
  ([json]) =>
    Effect.sync(() => {
      const text = canonical(json)
      assert.strictEqual(canonical(reversed(json)), text)
      assert.deepStrictEqual(JSON.parse(text), JSON.parse(JSON.stringify(json)))
    }),
  { arbitrary: { runs: 500 } }
)

const Totals = Query.make("Totals", {
  db: "warehouse",
  payload: {
    day: Schema.String,
    filter: Schema.Struct({ shops: Schema.Array(Schema.String), limits: Schema.Record(Schema.String, Schema.Int) }),
    from: Schema.optionalKey(Schema.DateTimeUtc)
  }
})

it.effect.prop(
  "equal payloads have equal keys, and others have others, however long they are",
  [Arbitrary.schema(Totals.payloadSchema), Keys],
  ([{ filter: { limits, shops }, ...rest }, more]) =>
    Effect.gen(function*() {
      const payload = { ...rest, filter: { limits, shops } }
      const key = yield* Totals.key(payload)
      assert.isAtMost(new TextEncoder().encode(key.query).length, QueryKey.maxIdBytes)
      const entries = Object.entries(limits).toReversed()
      const turned = { filter: { shops, limits: Object.fromEntries(entries) }, ...rest }
      assert.deepStrictEqual(yield* Totals.key(turned), key)
      const other = { ...payload, filter: { limits, shops: [...shops, ...more, "another"] } }
      assert.notDeepEqual(yield* Totals.key(other), key)
    })
)

it.effect("a payload that is long is hashed, at the first byte that does not fit", () =>
  Effect.gen(function*() {
    const Long = Query.make("Long", {
      db: "warehouse",
      payload: { text: Schema.String },
      idempotencyKey: ({ text }) => text
    })
    for (const unit of ["x", "é", "😀"]) {
      const bytes = new TextEncoder().encode(unit).length
      const longest = Math.floor((QueryKey.maxIdBytes - "Long ".length) / bytes)
      const fits = unit.repeat(longest)
      assert.strictEqual((yield* Long.key({ text: fits })).query, `Long ${fits}`)
      assert.match((yield* Long.key({ text: `${fits}${unit}` })).query, /^Long [\da-f]{64}$/)
    }
    const text = "x".repeat(1_000_000)
    assert.deepStrictEqual(yield* Long.key({ text }), yield* Long.key({ text }))
    assert.notDeepEqual(yield* Long.key({ text }), yield* Long.key({ text: `${text}x` }))
  }))
