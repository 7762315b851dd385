/**
 * FlowMachine's side of a shared Redis, by a stand-in: a process in Python with a client library of its own, or, where none
 * can be had, what `ReferenceMachine.ts` does over a connection of its own.
 *
 * Either is written from `flowmachine-facts.md`, and neither shares code with the library.
 */
import { Deferred, Effect, Exit, Fiber, type Scope } from "effect"
import { QueryKey } from "effect-query-state"
import { spawn as spawnProcess } from "node:child_process"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import * as RedisAdmin from "./RedisAdmin.ts"
import * as ReferenceMachine from "./ReferenceMachine.ts"

export interface Machine extends Pick<ReferenceMachine.ReferenceMachine, "currentState" | "trigger"> {
  readonly waitUntilComplete: Effect.Effect<void>
}

/** What it is to play: random events on random queries of a database, and some waits meanwhile. */
export interface Plan {
  readonly db: string
  readonly queries: ReadonlyArray<string>
  readonly seed: number
  readonly steps: number
  readonly waits: number
}

/** A transition that it was answered to have made. */
export interface Won {
  readonly query: string
  readonly event: ReferenceMachine.Event
}

export interface Reference {
  readonly make: (key: QueryKey.QueryKey) => Effect.Effect<Machine>
  /** Plays, and answers which steps it won. */
  readonly play: (plan: Plan) => Effect.Effect<ReadonlyArray<Won>>
  /** Waits until all waits have ended that were played, and answers how many. */
  readonly join: Effect.Effect<number>
}

const sleepMillis = 10

/** Starts a stand-in, which ends with the scope. */
export const spawn = (redisUrl: string): Effect.Effect<Reference, never, Scope.Scope> => {
  const python = inject("python")
  return python === "" ? inProcess(redisUrl) : inPython(python, redisUrl)
}

const inPython = Effect.fnUntraced(function*(python: string, redisUrl: string) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawnProcess(python, ["-u", fileURLToPath(new URL("../fixtures/reference.py", import.meta.url))], {
        env: { ...process.env, REDIS_URL: redisUrl },
        stdio: ["pipe", "pipe", "inherit"]
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const exited = Deferred.makeUnsafe<void>()
  child.once("exit", () => Deferred.doneUnsafe(exited, Exit.void))
  child.once("error", () => Deferred.doneUnsafe(exited, Exit.void))
  child.stdin.on("error", () => {})

  const answers = new Map<number, Deferred.Deferred<unknown>>([[0, Deferred.makeUnsafe()]])
  Readline.createInterface({ input: child.stdout }).on("line", (line) => {
    const { id, value } = JSON.parse(line) as { readonly id: number; readonly value: unknown }
    const answer = answers.get(id)
    answers.delete(id)
    if (answer !== undefined) Deferred.doneUnsafe(answer, Exit.succeed(value))
  })

  const gone = Effect.andThen(Deferred.await(exited), Effect.die(new Error("The stand-in of FlowMachine is gone")))
  const answerTo = (id: number) => {
    const answer = answers.get(id) ?? Deferred.makeUnsafe<unknown>()
    answers.set(id, answer)
    return Effect.raceFirst(Deferred.await(answer), gone)
  }

  let count = 0
  const ask = <A>(command: object) =>
    Effect.suspend(() => {
      const id = ++count
      const answer = answerTo(id)
      child.stdin.write(`${JSON.stringify({ id, ...command })}\n`)
      return answer as Effect.Effect<A>
    })

  yield* answerTo(0)
  return {
    make: ({ db, query }) =>
      Effect.as(ask({ does: "make", db, query }), {
        currentState: ask<string>({ does: "state", db, query }),
        trigger: (event) => ask({ does: "trigger", db, query, event }),
        waitUntilComplete: ask({ does: "wait", db, query, seconds: sleepMillis / 1000 })
      }),
    play: (plan) => ask({ does: "play", ...plan }),
    join: ask({ does: "join" })
  } satisfies Reference as Reference
})

const events = ["QUEUE", "EXECUTE", "FINISH", "FINISH_RESET", "CANCEL", "RESET", "ERROR"] as const

/** A generator of numbers below a limit, the same for the same seed. */
const dice = (seed: number) => {
  let state = seed
  return (limit: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor(state / 2 ** 32 * limit)
  }
}

const inProcess = Effect.fnUntraced(function*(redisUrl: string) {
  const redis = yield* RedisAdmin.connect(redisUrl)
  const scope = yield* Effect.scope
  const waiting: Array<Fiber.Fiber<void>> = []
  const make: Reference["make"] = (key) =>
    Effect.map(ReferenceMachine.make(redis, key), ({ currentState, trigger, waitUntilComplete }) => ({
      currentState,
      trigger,
      waitUntilComplete: waitUntilComplete(sleepMillis)
    }))
  return {
    make,
    play: Effect.fnUntraced(function*({ db, queries, seed, steps, waits }) {
      const roll = dice(seed)
      const anyKey = () => QueryKey.makeUnsafe({ db, query: queries[roll(queries.length)] ?? "" })
      for (let index = 0; index < waits; index++) {
        const wait = Effect.flatMap(make(anyKey()), (machine) => machine.waitUntilComplete)
        waiting.push(yield* Effect.forkIn(wait, scope))
      }
      const won: Array<Won> = []
      for (let index = 0; index < steps; index++) {
        const key = anyKey()
        const event = events[roll(events.length)] ?? "QUEUE"
        const { changed } = yield* Effect.flatMap(make(key), (machine) => machine.trigger(event))
        if (changed) won.push({ query: key.query, event })
      }
      return won
    }),
    join: Effect.suspend(() => Effect.as(Fiber.joinAll(waiting), waiting.length))
  } satisfies Reference as Reference
})
