/** Ten thousand who wait for one query in one process. */
import { Effect, Fiber } from "effect"
import { QueryStateMachine } from "effect-query-state"
import type { Row, Scale } from "./Row.ts"
import { Server, StoreLayer } from "./Server.ts"
import { median } from "./statistics.ts"
import * as Waiters from "./waiters.ts"

const waiters = 10_000

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const server = yield* Server
  const rounds = yield* Effect.forEach(Waiters.keys(isQuick ? 1 : 7), (key) =>
    Effect.gen(function*() {
      yield* Waiters.enqueue([key])
      const query = yield* QueryStateMachine.make(key)
      const woken: Array<number> = []
      const fibers = yield* Waiters.begin(Array.from({ length: waiters }, () => key), () => {
        woken.push(performance.now())
      })
      const channels = yield* server.channels
      const before = yield* server.calls("evalsha")
      const begun = performance.now()
      yield* query.cancel
      yield* Fiber.joinAll(fibers)
      const [first = Number.NaN] = woken
      return {
        channels,
        reads: (yield* server.calls("evalsha")) - before - 1,
        spread: (woken.at(-1) ?? Number.NaN) - first,
        untilFirst: first - begun
      }
    }))
  const worst = (of: "channels" | "reads") => Math.max(...rounds.map((round) => round[of]))
  const spread = median(rounds.map((round) => round.spread))
  const untilFirst = median(rounds.map((round) => round.untilFirst))
  return [
    {
      name: "oneQuerySubscriptions",
      figures: { subscriptions: worst("channels") },
      what: "subscriptions of 10,000 waiters of one query",
      measured: `${worst("channels")}`,
      toReach: "1",
      met: worst("channels") === 1
    },
    {
      name: "oneQueryReads",
      figures: { reads: worst("reads") },
      what: "reads for their wake-up",
      measured: `${worst("reads")}`,
      toReach: "at most 2",
      met: worst("reads") <= 2
    },
    {
      name: "oneQuerySpread",
      figures: { spreadMillis: spread, firstMillis: untilFirst },
      what: "from the first of them resolved to the last",
      measured: `${spread.toFixed(0)} ms (the first after ${untilFirst.toFixed(0)} ms)`,
      toReach: "at most 250 ms",
      met: spread <= 250
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
