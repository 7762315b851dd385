import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { QueryKey } from "effect-query-state"

const { maxIdBytes } = QueryKey

it.effect.each([
  "warehouse",
  " ",
  ":",
  "{}",
  "{a}:{b}",
  "100% of %3A",
  "daily totals",
  "naïve 漢字 👩‍👩‍👧",
  "\u0000\n\t",
  "__proto__",
  "x".repeat(maxIdBytes),
  "é".repeat(maxIdBytes / 2),
  "😀".repeat(maxIdBytes / 4)
])("%j is an id", (id) =>
  Effect.gen(function*() {
    const key = yield* QueryKey.make({ db: id, query: id })
    assert.deepStrictEqual<object>(key, { db: id, query: id })
    assert.deepStrictEqual(QueryKey.makeUnsafe({ db: id, query: id }), key)
  }))

const invalidIds = [
  { what: "an empty id", id: "", issue: "Expected a value with a length of at least 1" },
  { what: "a byte too many", id: "x".repeat(maxIdBytes + 1), issue: "must be at most 512 bytes of UTF-8" },
  {
    what: "an id with few characters but too many bytes",
    id: "é".repeat(maxIdBytes / 2) + "x",
    issue: "must be at most 512 bytes of UTF-8"
  },
  {
    what: "an emoji more than fits",
    id: "😀".repeat(maxIdBytes / 4 + 1),
    issue: "must be at most 512 bytes of UTF-8"
  },
  {
    what: "a lone high surrogate",
    id: "totals \ud83d",
    issue: "must be well-formed Unicode (it holds a lone surrogate)"
  },
  {
    what: "a lone low surrogate",
    id: "\ude00 totals",
    issue: "must be well-formed Unicode (it holds a lone surrogate)"
  }
].flatMap(({ id, issue, what }) => [
  { what, field: "db", ids: { db: id, query: "totals" }, issue },
  { what, field: "query", ids: { db: "warehouse", query: id }, issue }
])

it.effect.each(invalidIds)("$what is no $field", ({ field, ids, issue }) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(QueryKey.make(ids))
    assert.strictEqual(error._tag, "InvalidQueryKey")
    assert.strictEqual(error.message, `Not a query key: ${issue} at ["${field}"]`)
  }))

it.each(invalidIds)("makeUnsafe throws: $what is no $field", ({ ids, issue }) => {
  assert.throws(() => QueryKey.makeUnsafe(ids), QueryKey.InvalidQueryKey, issue)
})

it.prop("a key survives JSON", [QueryKey.QueryKey], ([key]) => {
  const codec = Schema.fromJsonString(QueryKey.QueryKey)
  const { db, query } = key
  assert.deepStrictEqual(Schema.decodeSync(codec)(Schema.encodeSync(codec)(key)), QueryKey.makeUnsafe({ db, query }))
})

it("a key is shown as the database before the query", () => {
  assert.strictEqual(
    QueryKey.format(QueryKey.makeUnsafe({ db: "warehouse", query: "daily totals" })),
    "warehouse/daily totals"
  )
})
