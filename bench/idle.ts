/** What idle waiters cost. */
import { Effect, Fiber } from "effect"
import * as ReferenceMachine from "../test/support/ReferenceMachine.ts"
import type { Row, Scale } from "./Row.ts"
import { Server, StoreLayer } from "./Server.ts"
import { count, show } from "./statistics.ts"
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

  const machines = yield* Effect.forEach(keys, (key) => ReferenceMachine.make(server.raw, key), { concurrency: 50 })
  yield* Effect.forEach(machines, (machine) => machine.trigger("QUEUE"), { concurrency: 50 })
  const polling = yield* Effect.forEach(machines, (machine) => Effect.forkChild(machine.waitUntilComplete(1_000)))
  const polledBefore = yield* server.calls("get")
  yield* Effect.sleep(`${seconds} seconds`)
  const polls = (yield* server.calls("get")) - polledBefore
  yield* Fiber.interruptAll(polling)
  return [
    {
      name: "idle",
      figures: { commandsInTenSeconds: commands * 10 / seconds },
      what: "commands in ten seconds from 1,000 idle waiters of 1,000 queries",
      measured: isQuick ? `${commands} in ${seconds} seconds` : `${commands}`,
      toReach: "1,000 or less",
      isReached: commands <= 100 * seconds
    },
    {
      name: "idlePoll",
      figures: { commandsInTenSeconds: polls * 10 / seconds, ratio: commands / polls },
      what: "the same, against FlowMachine, which looks every second",
      measured: `${show(commands / polls)} (${count(polls * 10 / seconds)})`,
      toReach: "1/100 or less",
      isReached: commands * 100 <= polls
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
