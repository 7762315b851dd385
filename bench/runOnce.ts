/** A thousand queries that eight processes run once or join, compared with jobs of BullMQ that have ids. */
import { Effect } from "effect"
import * as Fleet from "./fleet.ts"
import type { Row, Scale } from "./Row.ts"
import { Server } from "./Server.ts"
import { count, show, spread } from "./statistics.ts"

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const server = yield* Server
  const queries = isQuick ? 100 : 1_000
  const runs = queries * Fleet.processes

  const startBoth = Effect.gen(function*() {
    const library = yield* Fleet.start("library", { queries })
    const bull = yield* Fleet.start("bull", { queries })
    return { library, bull, first: yield* Fleet.pair(library, bull) }
  })
  const colds = yield* Effect.replicateEffect(
    Effect.scoped(Effect.map(startBoth, ({ first }) => first)),
    isQuick ? 0 : 4
  )

  // The processes of the last cold round go on until they are warm.
  const { bull, first, library } = yield* startBoth
  const cold = [...colds, first]
  const rounds = yield* Fleet.warmUp(library, bull, isQuick ? 2 : 60)
  const warm = yield* Effect.replicateEffect(Fleet.pair(library, bull), isQuick ? 3 : 21)
  const commands = yield* server.monitor(library.round)
  const commandsBull = yield* server.monitor(bull.round)

  const isOnce = [...cold, ...warm].every(([{ isOnce }]) => isOnce)
  const what = `${count(queries)} queries run once or joined by ${Fleet.processes} processes`
  const time = (name: string, what: string, pairs: ReadonlyArray<Fleet.RoundPair>, atMost: number): Row => {
    const { high, low, ours, ratio, theirs } = Fleet.compare(pairs, "millis")
    return {
      name,
      figures: { ratio, low, high, millis: ours, millisBull: theirs },
      what,
      measured: `${show(ratio)} (${spread({ ratio, low, high })}; ${count(ours)} against ${count(theirs)} ms; ${
        isOnce ? "each executed once" : "NOT EXECUTED ONCE EACH"
      })`,
      toReach: `${atMost} x or less`,
      isReached: isOnce && ratio <= atMost
    }
  }
  const perRun = { client: Fleet.compare(warm, "client"), server: Fleet.compare(warm, "server") }
  const processor = (of: keyof typeof perRun): Row => {
    const { high, low, ours, ratio, theirs } = perRun[of]
    return {
      name: `runOnceProcessor${of === "client" ? "Client" : "Server"}`,
      figures: { ratio, low, high, ours, theirs },
      what: `processor time of the ${of} for each, warm`,
      measured: `${show(ratio)} (${spread({ ratio, low, high })}; ${ours.toFixed(0)} against ${theirs.toFixed(0)} µs)`,
      toReach: of === "server" ? "0.6 x or less" : "",
      isReached: of === "server" ? ratio <= 0.6 : undefined
    }
  }
  return [
    time("runOnce", `${what}, warm after ${rounds + 1} rounds, against BullMQ with job ids`, warm, 0.75),
    time("runOnceCold", "the same, cold: the first round of new processes", cold, 1),
    {
      name: "runOnceCommands",
      figures: {
        ratio: commands.executed / commandsBull.executed,
        ours: commands.executed / runs,
        theirs: commandsBull.executed / runs,
        sent: commands.sent / runs,
        sentBull: commandsBull.sent / runs
      },
      what: "commands that Redis executes for each, also in scripts; sent by clients",
      measured: `${show(commands.executed / commandsBull.executed)} (${(commands.executed / runs).toFixed(1)} against ${
        (commandsBull.executed / runs).toFixed(1)
      }); ${(commands.sent / runs).toFixed(1)} against ${(commandsBull.sent / runs).toFixed(1)}`,
      toReach: "0.45 x or less",
      isReached: commands.executed <= 0.45 * commandsBull.executed
    },
    processor("server"),
    processor("client")
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(Server.layer, { local: true }))
