/** Ten thousand waiters of one query in one process. */
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
      return {
        channels,
        reads: (yield* server.calls("evalsha")) - before - 1,
        first: (woken[0] ?? Number.NaN) - begun,
        last: (woken.at(-1) ?? Number.NaN) - begun
      }
    }))
  const worst = (of: "channels" | "reads") => Math.max(...rounds.map((round) => round[of]))
  const [subscriptions, reads] = [worst("channels"), worst("reads")]
  const first = median(rounds.map((round) => round.first))
  const last = median(rounds.map((round) => round.last))
  return [
    {
      name: "oneQuery",
      figures: { subscriptions, reads, firstMillis: first, lastMillis: last },
      what: "wake-ups of 10,000 waiters of one query: subscriptions, reads, last after",
      measured: `${subscriptions}, ${reads}, ${last.toFixed(0)} ms (first after ${first.toFixed(0)} ms)`,
      toReach: "1, 0, 25 ms",
      isReached: subscriptions === 1 && reads === 0 && last <= 25
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
