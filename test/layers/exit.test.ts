import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { inject } from "vitest"
import * as Bundle from "../support/bundle.ts"
import { execute } from "../support/execute.ts"

/** What a separate process prints, and how it exits when nothing keeps it running. */
const run = (program: string) =>
  Effect.gen(function*() {
    const folder = yield* Bundle.folder("exit")
    const file = Path.join(folder, "program.ts")
    Fs.writeFileSync(file, program)
    yield* Bundle.bundle([file], folder)
    return yield* execute(process.execPath, [Path.join(folder, "program.mjs")])
  })

const program = (body: string) => `
  import { Effect, Layer, Redacted } from "effect"
  import { QueryKey, QueryStateMachine, RedisStoreLive } from "effect-query-state"
  const url = Redacted.make("${inject("redisUrl")}")
  const key = QueryKey.makeUnsafe({ db: "exit", query: String(process.pid) })
  ${body}
`

it.live.each<[what: string, body: string, output: string]>([
  [
    "was connected, subscribed and interrupted while it waited",
    `await Effect.gen(function*() {
      const query = yield* QueryStateMachine.make(key)
      yield* query.enqueue
      const waited = yield* Effect.result(query.waitUntilComplete({ timeout: "100 millis" }))
      console.log(waited._tag)
    }).pipe(Effect.provide(RedisStoreLive.layer({ url })), Effect.runPromise)`,
    "Failure"
  ],
  [
    "ran a query, with its heartbeat and its watch",
    `await Effect.gen(function*() {
      const query = yield* QueryStateMachine.make(key)
      console.log(yield* query.run({ execute: () => Effect.succeed("ran"), result: Effect.succeedSome("joined") }))
    }).pipe(Effect.provide(RedisStoreLive.layer({ url })), Effect.runPromise)`,
    "ran"
  ],
  [
    "could not connect",
    `const layer = RedisStoreLive.layer({ url: Redacted.make("redis://127.0.0.1:1"), connectTimeout: "1 second" })
    console.log(await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(layer)))).then((error) => error.reason._tag))`,
    "ConnectionLost"
  ]
])("a process that %s exits once its store is closed", ([, body, output]) =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* run(program(body)), { code: 0, output })
  }))
