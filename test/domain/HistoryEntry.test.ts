import { assert, it } from "@effect/vitest"
import { DateTime } from "effect"
import { HistoryEntry, Reason } from "effect-query-state"

const entry = { at: DateTime.makeUnsafe(0), version: 1 } as const

it.each<[HistoryEntry.HistoryEntry, string]>([
  [{ ...entry, event: "Queue", from: "Known", to: "Queued" }, "Known -> Queued"],
  [{ ...entry, event: "Finish", from: "Executing", to: "Completed", holder: "a" }, "Executing -> Completed (by a)"],
  [
    { ...entry, from: "Executing", to: "Errored", holder: "a", reason: Reason.leaseExpired("a") },
    "Executing -> Errored (by a): the lease of a lapsed"
  ],
  [{ ...entry, event: "Cancel", from: "Queued", to: "Cancelled", reason: Reason.unrecorded }, "Queued -> Cancelled"]
])("%o is shown as %s", (given, text) => {
  assert.strictEqual(HistoryEntry.format(given), text)
})
