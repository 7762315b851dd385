import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import { QueryKey, QueryRecord, QueryState, Reason } from "effect-query-state"

const key = QueryKey.makeUnsafe({ db: "warehouse", query: "daily totals" })
const codec = Schema.fromJsonString(Schema.toCodecJson(QueryRecord.QueryRecord))
const isEquivalent = Schema.toEquivalence(QueryRecord.QueryRecord)

it.prop("a record survives JSON", [QueryRecord.QueryRecord], ([record]) => {
  const back = Schema.decodeSync(codec)(Schema.encodeSync(codec)(record))
  assert.isTrue(isEquivalent(back, record))
}, { arbitrary: { runs: 300 } })

it("a query without a record is Known, with version 0, and was never changed", () => {
  assert.deepStrictEqual(QueryRecord.absent(key), { key, state: QueryState.known, version: 0, attempts: 0 })
})

it("a record is shown with its query, state and reason", () => {
  const state = QueryState.make("Cancelled", { reason: Reason.requested({ by: "ada", note: "wrong table" }) })
  assert.strictEqual(
    QueryRecord.format({ key, state, version: 3, attempts: 0 }),
    "query warehouse/daily totals was cancelled (requested by ada: wrong table)"
  )
})
