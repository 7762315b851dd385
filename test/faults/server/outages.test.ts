/** Servers that take no writes for longer than a command may take, and for less than a lease. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Effect, Fiber, Latch, Redacted, References, Schema, type Scope } from "effect"
import {
  type QueryEvent,
  type QueryState,
  QueryStateMachine,
  RedisStore,
  RedisStoreFaults,
  RedisStoreLive
} from "effect-query-state"
import type { Redis } from "ioredis"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { outcomeOf } from "../../support/outcome.ts"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

class WorkFailed extends Schema.TaggedError<WorkFailed>()("WorkFailed", {}) {}

/** An outage of a server. */
interface Outage {
  readonly url: string
  readonly begin: Effect.Effect<void, RedisServer.RedisServerError, Scope.Scope>
  readonly end: Effect.Effect<void, RedisServer.RedisServerError, Scope.Scope>
}

const Folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "query-state-outage-"))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
)

const stopped = Effect.gen(function*() {
  const args = ["--dir", yield* Folder, "--appendonly", "yes", "--appendfsync", "always"]
  const first = yield* RedisServer.acquire({ args })
  return {
    url: first.url,
    begin: first.stop,
    end: Effect.asVoid(RedisServer.acquire({ args, port: first.port }))
  }
})

/** An outage that an administrator begins and ends. */
const administered = (
  args: ReadonlyArray<string>,
  begin: (admin: Redis, server: RedisServer.RedisServer) => Effect.Effect<unknown>,
  end: (admin: Redis, server: RedisServer.RedisServer) => Effect.Effect<unknown>
) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire({ args })
    const admin = yield* RedisAdmin.connect(server.url)
    return {
      url: server.url,
      begin: Effect.asVoid(begin(admin, server)),
      end: Effect.asVoid(end(admin, server))
    }
  })

const call = (...command: readonly [string, ...ReadonlyArray<string | number>]) => (admin: Redis) =>
  Effect.promise(() => admin.call(...command))

const dump = ({ dir }: RedisServer.RedisServer) => Path.join(dir, "dump.rdb")

/** Saves to the disk, and waits until that has succeeded or failed. */
const save = (admin: Redis, status: "ok" | "err") =>
  Effect.andThen(
    call("BGSAVE")(admin),
    Effect.repeat(Effect.delay(Effect.promise(() => admin.info("persistence")), 1), {
      until: (text) => text.includes(`rdb_last_bgsave_status:${status}`)
    })
  )

const outages: ReadonlyArray<
  readonly [what: string, make: Effect.Effect<Outage, RedisServer.RedisServerError, Scope.Scope>]
> = [
  ["is away", stopped],
  ["is paused", administered([], call("CLIENT", "PAUSE", 60_000, "WRITE"), call("CLIENT", "UNPAUSE"))],
  [
    "cannot save (MISCONF)",
    administered(
      ["--save", "3600 1"],
      (admin, server) => Effect.andThen(Effect.sync(() => Fs.mkdirSync(dump(server))), save(admin, "err")),
      (admin, server) => Effect.andThen(Effect.sync(() => Fs.rmdirSync(dump(server))), save(admin, "ok"))
    )
  ],
  [
    "lacks replicas (NOREPLICAS)",
    administered(
      [],
      call("CONFIG", "SET", "min-replicas-to-write", 1),
      call("CONFIG", "SET", "min-replicas-to-write", 0)
    )
  ]
]

type Work = () => Effect.Effect<void, WorkFailed>

/** A kind of claimed work: how it ends, the event that records it, and the one before. */
interface Kind {
  readonly event: QueryEvent.QueryEvent
  readonly after: QueryEvent.QueryEvent
  readonly from: QueryState.Tag
  readonly to: QueryState.Tag
  readonly end: Effect.Effect<void, WorkFailed>
  readonly claim: (query: QueryStateMachine.QueryStateMachine, work: Work) => Effect.Effect<void, unknown>
}

const execute: Kind["claim"] = (query, work) => query.withExecution(work)

const kinds: ReadonlyArray<Kind> = [
  {
    event: "Finish",
    after: "Execute",
    from: "Known",
    to: "Completed",
    end: Effect.void,
    claim: (query, work) => query.run({ execute: work, result: Effect.die("it is run once") })
  },
  {
    event: "Error",
    after: "Execute",
    from: "Queued",
    to: "Errored",
    end: Effect.fail(new WorkFailed()),
    claim: execute
  },
  { event: "Cancel", after: "Execute", from: "Queued", to: "Cancelled", end: Effect.interrupt, claim: execute },
  {
    event: "FinishReset",
    after: "Reset",
    from: "Completed",
    to: "Known",
    end: Effect.void,
    claim: (query, work) => query.withReset(work)
  }
]

const each = 10

for (const [what, make] of outages) {
  it.live(
    `outcomes of a server that ${what} for longer than a command may take are recorded once`,
    () =>
      Effect.gen(function*() {
        const outage = yield* make
        yield* Effect.gen(function*() {
          const { calls } = yield* RedisStoreFaults.RedisStoreFaults
          const store = yield* RedisStore.RedisStore
          const latch = yield* Latch.make()
          let begun = 0

          const queries = yield* Effect.forEach(
            kinds.flatMap((kind) => Arr.replicate(kind, each)),
            (kind) =>
              Effect.gen(function*() {
                const key = yield* freshKey
                yield* driveTo(key, kind.from)
                return { key, kind, query: yield* QueryStateMachine.make(key) }
              })
          )
          const fibers = yield* Effect.forEach(queries, ({ kind, query }) => {
            const work = () => Effect.andThen(Effect.sync(() => begun += 1), Effect.andThen(latch.await, kind.end))
            return Effect.forkChild(Effect.exit(kind.claim(query, work)))
          })
          yield* Effect.repeat(Effect.delay(Effect.sync(() => begun), 1), {
            until: (count) => count === queries.length
          })

          yield* outage.begin
          yield* latch.open
          // Each outcome was given up by the store once, and is tried again.
          const triedAgain = Effect.map(calls, (calls) =>
            queries.every(({ key, kind }) =>
              calls.filter((call) =>
                call.operation === "compareAndSet" && call.key === key && call.command.event === kind.event
              ).length > 1
            ))
          yield* Effect.repeat(Effect.delay(triedAgain, 10), {
            until: (is) =>
              is
          })
          yield* outage.end

          const exits = yield* Fiber.joinAll(fibers)
          const expected = yield* Effect.forEach(queries, ({ kind }) =>
            Effect.exit(kind.end))
          assert.deepStrictEqual(exits.map(outcomeOf), expected.map(outcomeOf))
          const records = Arr.getSuccesses(yield* store.readMany(queries.map(({ key }) => key)))
          assert.deepStrictEqual(records.map(({ state }) => state._tag), queries.map(({ kind }) => kind.to))
          const events = yield* Effect.forEach(queries, ({ query }) => query.history)
          assert.deepStrictEqual(
            events.map((entries) => entries.slice(-2).map(({ event }) => event)),
            queries.map(({ kind }) => [kind.after, kind.event])
          )
          // Nothing is run twice.
          const again = yield* Effect.forEach(queries.slice(0, each), ({ query }) =>
            query.run({
              execute: () => Effect.die("it is run once"),
              result: Effect.succeedSome("fetched")
            }))
          assert.deepStrictEqual(again, Arr.replicate("fetched", each))
          assert.strictEqual(begun, queries.length)
        }).pipe(
          Effect.scoped,
          // The warnings are tested in virtual time.
          Effect.provideService(References.MinimumLogLevel, "Error"),
          Effect.provide(
            RedisStoreFaults.layer(
              RedisStoreLive.layer({
                url: Redacted.make(outage.url),
                commandTimeout: "1 second",
                history: { length: 10 }
              })
            )
          )
        )
      }),
    { timeout: 60_000 }
  )
}
