/** What waiters cost that have nothing to do. */
import { Effect, Fiber } from "effect"
import type { Row, Scale } from "./Row.ts"
import { Server, StoreLayer } from "./Server.ts"
import * as Waiters from "./waiters.ts"

const waiters = 1_000

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const seconds = isQuick ? 2 : 10
  const server = yield* Server
  const keys = Waiters.keys(waiters)
  yield* Waiters.enqueue(keys)
  const fibers = yield* Waiters.begin(keys)
  const before = yield* server.commands
  yield* Effect.sleep(`${seconds} seconds`)
  const commands = (yield* server.commands) - before
  yield* Fiber.interruptAll(fibers)
  return [{
    what: "commands in ten seconds from 1,000 idle waiters of 1,000 queries",
    measured: isQuick ? `${commands} in ${seconds} seconds` : `${commands}`,
    toReach: "below 1,000",
    met: commands < 100 * seconds
  }] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
