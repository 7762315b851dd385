import { assert, describe, it } from "@effect/vitest"
import { DateTime, Schema } from "effect"
import { QueryKey, type QueryRecord, QueryState, Reason, RedisStoreError } from "effect-query-state"
import { CliOutput } from "effect/cli"
import * as View from "../../src/cli/view.ts"

const now = DateTime.makeUnsafe("2026-11-24T15:00:00Z")
const db = QueryKey.DbId.make("warehouse")

/** A record that changed so many seconds ago. */
const record = (query: string, state: QueryState.QueryState, seconds: number): QueryRecord.QueryRecord => ({
  key: QueryKey.makeUnsafe({ db, query }),
  state,
  version: 7,
  attempts: 0,
  changedAt: DateTime.subtract(now, { seconds })
})

const held = (tag: QueryState.Tag, holder: string, seconds: number) =>
  QueryState.make(tag, { claim: { fence: 7, holder, expiresAt: DateTime.add(now, { seconds }) } })

const noneOfAny = { Known: 0, Queued: 0, Executing: 0, Completed: 0, Errored: 0, Cancelled: 0, Resetting: 0 }
const counts = { ...noneOfAny, ResetFailed: 0, Unreadable: 0 }

describe("one record", () => {
  it("is a line", () => {
    const reason = Reason.failed({ error: "SqlError", message: "division\nby zero" })
    assert.deepStrictEqual(
      [
        record("stock", QueryState.make("Queued"), 1),
        record("sales", held("Executing", "worker-3", 20), 2),
        {
          ...record("heat map", held("Executing", "worker-4", 20), 2),
          progress: { done: 3, total: 12, note: "joining" }
        },
        record("churn", QueryState.make("Errored", { reason }), 3)
      ].map(View.line),
      [
        "Queued       2026-11-24T14:59:59.000Z  stock",
        "Executing    2026-11-24T14:59:58.000Z  sales  by worker-3",
        "Executing    2026-11-24T14:59:58.000Z  heat map  by worker-4, 3 of 12 (25 %): joining",
        "Errored      2026-11-24T14:59:57.000Z  churn  (SqlError: division\\nby zero)"
      ]
    )
  })

  it("is shown with all its fields", () => {
    assert.deepStrictEqual(View.details(record("sales", held("Executing", "worker-3", 20), 75), now), [
      "Database  warehouse",
      "Query     sales",
      "State     Executing: the query is currently running",
      "Since     2026-11-24T14:58:45.000Z, 1m 15s ago",
      "Holder    worker-3",
      "Lease     until 2026-11-24T15:00:20.000Z, 20s left unless it is renewed",
      "Fence     7",
      "Version   7"
    ])
  })

  it("is shown with its label", () => {
    const labelled = { ...record("Totals 4f3a", QueryState.make("Completed"), 1), label: "Totals\u001b 2026-11-24" }
    assert.strictEqual(
      View.line(labelled),
      String.raw`Completed    2026-11-24T14:59:59.000Z  Totals 4f3a  "Totals\u{1b} 2026-11-24"`
    )
    assert.deepStrictEqual(View.details(labelled, now).slice(0, 3), [
      "Database  warehouse",
      "Query     Totals 4f3a",
      String.raw`Label     Totals\u{1b} 2026-11-24`
    ])
    const long = View.line({ ...labelled, label: "é".repeat(1000) })
    assert.match(long, /  "é{59}…"$/)
  })

  it("is shown with its label where it is pending, as far as the width allows", () => {
    const pending = [
      { ...record("Totals 4f3a", QueryState.make("Queued"), 1), label: "Totals 2026-11-24" },
      record("sales", QueryState.make("Queued"), 2)
    ]
    const shown = (columns: number) =>
      View.frame({ db, snapshot: { now, counts, pending }, trouble: undefined }, { columns, rows: 20 }, {
        isColoured: false
      }).slice(-3)
    assert.deepStrictEqual(shown(100), [
      "STATE   AGE  QUERY        LABEL              HOLDER  LEASE",
      "Queued   2s  sales",
      "Queued   1s  Totals 4f3a  Totals 2026-11-24"
    ])
    assert.deepStrictEqual(shown(40), [
      "STATE   AGE  QUERY        LABEL",
      "Queued   2s  sales",
      "Queued   1s  Totals 4f3a  Totals 2026-1…"
    ])
  })

  it("is shown with its progress", () => {
    const working = {
      ...record("sales", QueryState.make("Executing"), 1),
      progress: { done: 3, total: 12 },
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    }
    assert.deepStrictEqual(View.details(working, now).slice(4, 6), [
      "Progress  3 of 12 (25 %)",
      "Trace     00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ])
  })

  it("is shown with its attempts, its expiry, and what its holder waits for", () => {
    const kept = {
      ...record("churn", QueryState.make("Cancelled", { reason: Reason.interrupted }), 1),
      attempts: 2,
      keptUntil: DateTime.add(now, { hours: 3, seconds: 5 })
    }
    assert.deepStrictEqual(View.details(kept, now).slice(4), [
      "Reason    its fiber was interrupted",
      "Attempts  2",
      "Expires   2026-11-24T18:00:05.000Z, in 3h 5s: Known from then on",
      "Version   7"
    ])
    const waiting = {
      ...record("sales", QueryState.make("Executing"), 1),
      attempts: 1,
      waitsFor: ["stock", "a\nb"].map((query) => ({ key: QueryKey.makeUnsafe({ db, query }), version: 3 }))
    }
    assert.deepStrictEqual(View.details(waiting, now).slice(4), [
      "Waits for warehouse/stock",
      "Waits for warehouse/a\\nb",
      "Attempts  1",
      "Version   7"
    ])
  })

  it("is shown with its full reason", () => {
    const reason = Reason.failed({ error: "SqlError", message: "division by zero", detail: "SqlError\n  at run" })
    assert.deepStrictEqual(View.details(record("churn", QueryState.make("Errored", { reason }), 1), now).slice(4), [
      "Reason    SqlError: division by zero",
      "Version   7",
      "Detail",
      "  SqlError",
      "    at run"
    ])
  })

  it("is shown as held without end when its claim has no lease", () => {
    const forever = QueryState.make("Executing", { claim: { fence: 7 } })
    assert.include(
      View.details(record("sales", forever, 1), now),
      "Lease     none: the claim never lapses"
    )
  })
})

it("a transition is a line", () => {
  const cancelled = { at: now, version: 8, event: "Cancel", from: "Executing", to: "Cancelled" } as const
  assert.deepStrictEqual(
    [
      View.historyLine({ ...cancelled, holder: "worker-3", reason: Reason.requested({ by: "ada" }) }),
      View.historyLine({ at: now, version: 9, from: "Cancelled", to: "Resetting" })
    ],
    [
      "2026-11-24T15:00:00.000Z  Cancel       Executing -> Cancelled (by worker-3): requested by ada",
      "2026-11-24T15:00:00.000Z               Cancelled -> Resetting"
    ]
  )
})

it("control characters are shown escaped", () => {
  assert.strictEqual(
    View.printable("a\u001b[2Jb\r\n\u0007\u202Ec\u009b\u2028 売上"),
    "a\\u{1b}[2Jb\\u{d}\\n\\u{7}\\u{202e}c\\u{9b}\\u{2028} 売上"
  )
})

it("JSON is printed without control and bidirectional characters, and reads as it was", () => {
  const value = { reason: "a\u007f\u009b2J\u202eb\u2066\ufeff\u2028\u{e0041} 売上 🎉\n" }
  const printed = View.json(JSON.stringify(value))
  assert.strictEqual(
    printed,
    String.raw`{"reason":"a\u007f\u009b2J\u202eb\u2066\ufeff\u2028\udb40\udc41 売上 🎉\n"}`
  )
  assert.deepStrictEqual(JSON.parse(printed), value)
})

it("a holder of megabytes is cut", () => {
  const huge = record("sales", held("Executing", "w".repeat(1_000_000), 20), 2)
  assert.isBelow(View.line(huge).length, 1000)
  assert.isTrue(View.details(huge, now).every((line) => line.length < 1000))
})

it("durations are shown in their two largest units", () => {
  assert.deepStrictEqual(
    [-5, 0, 999, 1000, 61_500, 3_600_000, 90_061_000].map(View.formatSpan),
    ["0s", "0s", "0s", "1s", "1m 1s", "1h", "1d 1h"]
  )
})

describe("the live view", () => {
  const daily = record("daily-totals", QueryState.make("Queued"), 300)
  const late = record("late-orders", held("Executing", "worker-3", 20), 12)
  const sales = record("売上", held("Executing", "worker-4", 25), 90)
  const shown: View.Shown = {
    db,
    snapshot: {
      now,
      counts: { ...counts, Completed: 6, Executing: 2, Queued: 1, Errored: 1 },
      pending: [daily, late, sales]
    },
    trouble: undefined
  }
  const working: View.Shown = {
    db,
    snapshot: {
      now,
      counts,
      pending: [daily, { ...late, progress: { done: 3, total: 12 } }, { ...sales, progress: { done: 1204 } }]
    },
    trouble: undefined
  }
  const plain = { isColoured: false }

  it("has a bar, counts, and the pending queries: executing before queued, oldest first", () => {
    assert.deepStrictEqual(View.frame(shown, { columns: 60, rows: 12 }, plain), [
      "warehouse: 10 queries at 15:00:00 UTC. Press q to quit",
      "████████████████████████████████████▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░xxxxxx",
      "█ Completed 6   ▓ Executing 2   ░ Queued 1   x Errored 1",
      "",
      "STATE         AGE  QUERY         HOLDER    LEASE",
      "Executing  1m 30s  売上          worker-4    25s",
      "Executing     12s  late-orders   worker-3    20s",
      "Queued         5m  daily-totals"
    ])
  })

  it("says how many queries it has no room for", () => {
    assert.deepStrictEqual(View.frame(shown, { columns: 40, rows: 8 }, plain).slice(-3), [
      "STATE         AGE  QUERY",
      "Executing  1m 30s  売上",
      "… and 2 more pending"
    ])
  })

  it("shows progress when there is some", () => {
    assert.deepStrictEqual(View.frame(working, { columns: 70, rows: 12 }, plain).slice(3), [
      "STATE         AGE  QUERY         PROGRESS         HOLDER    LEASE",
      "Executing  1m 30s  売上          1204 done        worker-4    25s",
      "Executing     12s  late-orders   ▓▓░░░░░░░░  25%  worker-3    20s",
      "Queued         5m  daily-totals"
    ])
  })

  it("cuts only the names when space is short", () => {
    assert.deepStrictEqual(View.frame(working, { columns: 60, rows: 12 }, plain).slice(3), [
      "STATE         AGE  QUERY     PROGRESS         HOLDER   LEASE",
      "Executing  1m 30s  売上      1204 done        worker…    25s",
      "Executing     12s  late-or…  ▓▓░░░░░░░░  25%  worker…    20s",
      "Queued         5m  daily-t…"
    ])
  })

  it("keeps showing the last known queries during an outage", () => {
    const lines = View.frame({ ...shown, trouble: "no connection" }, { columns: 60, rows: 12 }, plain)
    assert.deepStrictEqual([lines.length, lines[1]], [9, "no connection"])
  })

  it("wraps an error, so that its cause and its remedy are seen", () => {
    const { message } = new RedisStoreError.ConnectionLost({ cause: new Error("connect ECONNREFUSED 127.0.0.1:6379") })
    const lines = View.frame({ ...shown, trouble: message }, { columns: 60, rows: 12 }, plain)
    assert.deepStrictEqual(lines.slice(1, 3), [
      "no connection to Redis (connect ECONNREFUSED",
      "127.0.0.1:6379). Check the address and that the server runs"
    ])
  })

  it("shows an outage before the first read, and that nothing is pending", () => {
    assert.deepStrictEqual(
      View.frame({ db, snapshot: undefined, trouble: "no connection" }, { columns: 60, rows: 12 }, plain),
      ["warehouse", "no connection"]
    )
    assert.deepStrictEqual(
      View.frame({ db, snapshot: { now, counts, pending: [] }, trouble: undefined }, { columns: 60, rows: 12 }, plain),
      ["warehouse: 0 queries at 15:00:00 UTC. Press q to quit", "", "", "No query is pending"]
    )
  })

  const Name = Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(40))
  const Pending = Schema.Struct({
    query: Name,
    holder: Name,
    tag: Schema.Literals(["Queued", "Executing", "Resetting"]),
    seconds: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000_000 }))
  })
  const Size = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 120 }))

  it.prop(
    "fits every terminal with any names",
    [Schema.Array(Pending).check(Schema.isMaxLength(40)), Size, Size, Schema.Boolean, Name],
    ([pending, columns, rows, isColoured, trouble]) => {
      const records = pending
        .filter(({ query }) => query.isWellFormed())
        .map(({ holder, query, seconds, tag }) => record(query, held(tag, holder, seconds), seconds))
      const snapshot = { now, counts: { ...counts, Executing: records.length, Unreadable: 3 }, pending: records }
      const lines = View.frame({ db, snapshot, trouble }, { columns, rows }, { isColoured })
      assert.isAtMost(lines.length, rows)
      for (const line of lines) assert.isAtMost(CliOutput.displayWidth(line), columns, line)
    }
  )
})
