/**
 * A deployment stops a process in the middle of its work: another one takes the query over, and nobody sees an error.
 *
 *     REDIS_URL=redis://localhost:6379 npx tsx examples/shutdown.ts
 *     npx tsx test/support/withRedis.ts npx tsx examples/shutdown.ts    # starts and stops a Redis
 *
 * This program starts itself twice, as the workers in `shutdown/Worker.ts`, and stops the first one by SIGTERM.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Config, Console, Deferred, Effect, Fiber, FileSystem, Layer, Option, Stream } from "effect"
import { QueryKey, QueryState, QueryStateMachine } from "effect-query-state"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"
import * as Worker from "./shutdown/Worker.ts"
import { db, prefix, StoreLayer } from "./support/StoreLayer.ts"

const program = fileURLToPath(import.meta.url)

/** Starts a worker, prints what it prints, and waits until it says something. */
const start = Effect.fnUntraced(function*(
  env: { readonly WORKER: string; readonly WORK_MILLIS: string; readonly RESULT_FILE: string },
  says: string
) {
  const { all, exitCode, kill } = yield* ChildProcess.make(process.execPath, [...process.execArgv, program], {
    env: { ...env, PREFIX: prefix },
    extendEnv: true,
    detached: false
  })
  const hasSaid = yield* Deferred.make<void>()
  const printed = yield* Stream.decodeText(all).pipe(
    Stream.splitLines,
    Stream.runForEach((line) =>
      Effect.andThen(Console.log(line), line.includes(says) ? Deferred.succeed(hasSaid, undefined) : Effect.void)
    ),
    Effect.forkScoped
  )
  const ended = Effect.flatMap(
    Effect.andThen(Fiber.join(printed), exitCode),
    (code) => Console.log(`${env.WORKER} ended with code ${code}`)
  )
  yield* Effect.raceFirst(Deferred.await(hasSaid), Fiber.join(printed))
  return { ended, kill }
})

const deployment = Effect.gen(function*() {
  yield* Config.Redacted("REDIS_URL")
  const fs = yield* FileSystem.FileSystem
  const RESULT_FILE = `${yield* fs.makeTempDirectoryScoped()}/totals.txt`

  const first = yield* start({ WORKER: "worker 1", WORK_MILLIS: "60000", RESULT_FILE }, "computes")
  const second = yield* start({ WORKER: "worker 2", WORK_MILLIS: "300", RESULT_FILE }, "asks")

  yield* Console.log("worker 1 gets a SIGTERM")
  yield* Effect.forkScoped(first.kill({ killSignal: "SIGTERM" }))
  yield* second.ended
  yield* first.ended

  const query = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db, query: "totals" }))
  yield* Console.log(`the query ${QueryState.format(yield* query.currentState)}`)
})

const complain = Effect.andThen(
  Console.error("REDIS_URL must name a Redis: two processes share no memory. The first lines of this file show how."),
  Effect.sync(() => {
    process.exitCode = 1
  })
)

const main = Effect.gen(function*() {
  const worker = yield* Config.option(Config.String("WORKER"))
  if (Option.isSome(worker)) return yield* Worker.main(worker.value)
  yield* deployment.pipe(
    Effect.scoped,
    Effect.provide(Layer.merge(StoreLayer, NodeServices.layer)),
    Effect.catchTag("ConfigError", () => complain)
  )
})

// It interrupts the program at a SIGTERM, and that is all that a worker has to do.
NodeRuntime.runMain(main)

/* Prints:

worker 1 asks: the query is known, but has not yet been run
worker 1 computes
worker 2 asks: the query is currently running
worker 1 gets a SIGTERM
worker 1 is stopped, and cleans up
worker 2 computes
worker 2 has 1,204 rows
worker 2 ended with code 0
worker 1 ended with code 130
the query is ready
*/
