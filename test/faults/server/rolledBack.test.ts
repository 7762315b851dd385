/** A server that restarts with an old snapshot: all later writes are lost. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted } from "effect"
import { QueryState, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { driveTo, errorFields, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

/** Has a server write down what it knows, and answers in which folder. */
const snapshotOf = ({ dir, url }: RedisServer.RedisServer) =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "query-state-snapshot-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
    )
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.promise(() => admin.save())
    Fs.copyFileSync(Path.join(dir, "dump.rdb"), Path.join(folder, "dump.rdb"))
    return folder
  })

it.live("after a rollback a holder gets LeaseLost, an outcome is pending again, and a reset is undone", () =>
  Effect.gen(function*() {
    const first = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const keys = yield* Effect.replicateEffect(freshKey, 3)
      const [claimed, decided, reset] = yield* Effect.forEach(keys, QueryStateMachine.make)
      if (claimed === undefined || decided === undefined || reset === undefined) return assert.fail()
      const queued = yield* driveTo(claimed.key, "Queued")
      yield* driveTo(decided.key, "Executing", { lease: "5 seconds" })
      const completed = yield* driveTo(reset.key, "Completed")
      const folder = yield* snapshotOf(first)

      let fence = 0
      const holder = yield* Effect.forkChild(Effect.flip(claimed.withExecution((claim) => {
        fence = claim.fence
        return Effect.never
      }, { lease: "20 seconds" })))
      yield* Effect.repeat(claimed.isExecuting, { until: (is) => is })
      assert.isTrue((yield* decided.trigger("Finish", { fence: (yield* decided.record).version })).changed)
      const lost = yield* decided.record
      yield* reset.withReset(() => Effect.void)

      yield* first.stop
      yield* RedisServer.acquire({ port: first.port, args: ["--dir", folder] })

      const error = yield* Fiber.join(holder)
      assert.deepStrictEqual(error._tag === "LeaseLost" && errorFields(error), {
        _tag: "LeaseLost",
        fence,
        record: queued
      })
      const rerun = yield* decided.run({
        execute: () => Effect.succeed("run again"),
        result: Effect.succeedSome("kept")
      })
      assert.strictEqual(rerun, "run again")
      const record = yield* decided.record
      assert.deepStrictEqual(record.state, QueryState.completed)
      assert.isAbove(record.version, lost.version)
      assert.deepStrictEqual(yield* reset.record, completed)
    }).pipe(
      Effect.scoped,
      Effect.provide(RedisStoreLive.layer({ url: Redacted.make(first.url) }))
    )
  }))
