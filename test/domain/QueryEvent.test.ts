import { assert, it } from "@effect/vitest"
import { QueryEvent } from "effect-query-state"

it("these are all events, with their names in Redis", () => {
  assert.deepStrictEqual(QueryEvent.all.map((event) => [event, QueryEvent.wireNames[event]]), [
    ["Queue", "queue"],
    ["Execute", "execute"],
    ["Finish", "finish"],
    ["Error", "error"],
    ["Cancel", "cancel"],
    ["Reset", "reset"],
    ["FinishReset", "finish_resetting"]
  ])
})
