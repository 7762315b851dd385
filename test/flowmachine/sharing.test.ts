/** Queries that processes of both kinds move, step by step. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Redacted, Result, Schedule, Stream } from "effect"
import {
  type QueryError,
  QueryEvent,
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreError,
  RedisStoreFlowMachine,
  Transition
} from "effect-query-state"
import { inject } from "vitest"
import {
  driveReference,
  makeReference,
  members,
  recordKey,
  StandIn,
  stateKey,
  stored,
  withAdmin
} from "../support/flowMachine.ts"
import * as Notifications from "../support/Notifications.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

/** A command on a query that is in a state, perhaps under a claim, and to which something happens first. */
interface Attempt {
  readonly from: QueryState.Tag
  readonly claim?: Pick<RedisStore.UnfencedCommand, "holder" | "lease">
  readonly first?: (record: QueryRecord.QueryRecord) => Effect.Effect<unknown>
  readonly attempt: (
    record: QueryRecord.QueryRecord
  ) => Effect.Effect<unknown, RedisStoreError.RedisStoreError | QueryError.LeaseLost>
}

/** All keys of a query, of both sides: name, content, and when it expires. */
const dumped = (key: QueryKey.QueryKey) =>
  withAdmin(async (admin) => {
    const names = (await admin.keys(`*${stateKey(key)}*`)).toSorted()
    return Promise.all(names.map(async (name) =>
      [
        name,
        (await admin.dumpBuffer(name))?.toString("hex"),
        await admin.pexpiretime(name)
      ] as const
    ))
  })

const url = Redacted.make(inject("redisUrl"))

const SharedLayer = Layer.merge(RedisStoreFlowMachine.layer({ url }), StandIn.layer)
const DevelopmentLayer = Layer.merge(RedisStoreFlowMachine.layer({ url, dialect: "reset-failed" }), StandIn.layer)

const released = Transition.edges.filter(({ from, to }) => from !== "ResetFailed" && to !== "ResetFailed")
const tags = QueryState.tags.filter((tag) => tag !== "ResetFailed")

it.layer(SharedLayer, { excludeTestServices: true, timeout: "30 seconds" })(
  "A query that is shared with FlowMachine",
  (it) => {
    it.effect("is not listed and has no keys after reads and refused events", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
        assert.deepStrictEqual((yield* query.waitUntilComplete()).state, QueryState.known)
        for (const event of QueryEvent.all.filter((event) => event !== "Queue")) {
          assert.deepStrictEqual(yield* query.trigger(event), { state: QueryState.known, changed: false })
        }
        assert.deepStrictEqual(yield* stored(key), [])
        assert.strictEqual(yield* withAdmin((admin) => admin.exists(recordKey(key))), 0)
      }))

    it.effect("has exactly the keys of the reference, byte for byte, in every state", () =>
      Effect.gen(function*() {
        for (const tag of tags.filter((tag) => tag !== "Known")) {
          const [ours, theirs] = yield* Effect.all([freshKey, freshKey])
          yield* driveTo(ours, tag)
          yield* driveReference(yield* makeReference(theirs), tag)
          assert.deepStrictEqual(yield* stored(ours), yield* stored(theirs), tag)
        }
      }))

    it.effect("has exactly eight keys of FlowMachine and one of this library", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* store.compareAndSet(key, { event: "Queue" })
        assert.deepStrictEqual(yield* stored(key), [
          ["", "queued", -1],
          [":QueryEvent.CANCEL", { executing: "cancelled", queued: "cancelled" }, -1],
          [":QueryEvent.ERROR", { executing: "errored" }, -1],
          [":QueryEvent.EXECUTE", { queued: "executing" }, -1],
          [":QueryEvent.FINISH", { executing: "completed" }, -1],
          [":QueryEvent.FINISH_RESET", { resetting: "known" }, -1],
          [":QueryEvent.QUEUE", { known: "queued" }, -1],
          [":QueryEvent.RESET", { cancelled: "resetting", completed: "resetting", errored: "resetting" }, -1]
        ])
        const fields = yield* withAdmin((admin) => admin.hgetall(recordKey(key)))
        assert.deepStrictEqual(Object.keys(fields).toSorted(), ["o", "s", "v"])
        assert.strictEqual(fields["s"], "queued")
      }))

    it.effect("has a time to live longer than its claim, and none in any other state", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const expiry = withAdmin((admin) => admin.call("PEXPIRETIME", stateKey(key)))
        const { record: { version } } = yield* store.compareAndSet(key, { event: "Queue", lease: "1 hour" })
        assert.strictEqual(yield* expiry, version)
        assert.isAbove(version, Date.parse("9999-12-31"))
        const { record } = yield* store.compareAndSet(key, { event: "Execute", fence: version, holder: "worker 1" })
        assert.strictEqual(yield* expiry, record.version)
        yield* store.renew(key, record.version, "1 hour")
        assert.strictEqual(yield* expiry, record.version)
        yield* store.compareAndSet(key, { event: "Finish", fence: record.version })
        assert.strictEqual(yield* expiry, -1)
      }))

    it.effect.each(released)(
      "can be moved by $event from $from to $to by either side after the other",
      ({ event, from, to }) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const [key, other] = yield* Effect.all([freshKey, freshKey])

          const machine = yield* makeReference(key)
          yield* driveReference(machine, from)
          const before = yield* store.read(key)
          assert.deepStrictEqual(before.state, QueryState.make(from))
          const { changed, record } = yield* store.compareAndSet(key, { event })
          assert.deepStrictEqual([changed, record.state], [true, QueryState.make(to)])
          assert.isAbove(record.version, before.version)
          assert.strictEqual(yield* machine.currentState, QueryState.wireNames[to])

          const driven = yield* driveTo(other, from)
          const theirs = yield* makeReference(other)
          assert.deepStrictEqual(yield* theirs.trigger(members[event]), {
            state: QueryState.wireNames[to],
            changed: true
          })
          const after = yield* store.read(other)
          assert.deepStrictEqual(after.state, QueryState.make(to))
          assert.isAbove(after.version, driven.version)
        })
    )

    it.effect("has one record for each move of the reference that is read, the same for all readers", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const machine = yield* makeReference(key)
        const life = ["QUEUE", "EXECUTE", "FINISH", "RESET", "FINISH_RESET"] as const
        const versions = [0]
        for (const event of [...life, ...life, ...life]) {
          yield* machine.trigger(event)
          const records = yield* Effect.all(Array.from({ length: 5 }, () => store.read(key)), { concurrency: 5 })
          const [record = QueryRecord.absent(key)] = records
          assert.deepStrictEqual(records, records.map(() => record))
          assert.strictEqual(QueryState.wireNames[record.state._tag], yield* machine.currentState)
          assert.isAbove(record.version, versions.at(-1) ?? 0)
          versions.push(record.version)
        }
      }))

    it.effect("loses claim and reason when the reference moves it, even back to the same state", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const machine = yield* makeReference(key)
        const { version } = yield* driveTo(key, "Executing", { holder: "worker 1", lease: "1 hour" })
        for (const event of ["CANCEL", "RESET", "FINISH_RESET", "QUEUE", "EXECUTE"] as const) {
          assert.isTrue((yield* machine.trigger(event)).changed)
        }
        const record = yield* store.read(key)
        assert.deepStrictEqual(record.state, QueryState.make("Executing"))
        assert.isAbove(record.version, version)
        assert.deepStrictEqual(
          errorFields(yield* Effect.flip(Effect.mapError(store.renew(key, version, "1 hour"), (e) => e))),
          {
            _tag: "LeaseLost",
            fence: version,
            record
          }
        )

        const failed = yield* freshKey
        yield* driveTo(failed, "Errored", { reason: Reason.failed({ error: "SqlError", message: "deadlock" }) })
        const other = yield* makeReference(failed)
        for (const event of ["RESET", "FINISH_RESET", "QUEUE", "EXECUTE", "FINISH"] as const) {
          yield* other.trigger(event)
        }
        assert.deepStrictEqual((yield* store.read(failed)).state, QueryState.completed)
      }))

    it.effect("sends a notification when it is moved here, and when a move of the reference is first read here", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const hints = yield* Notifications.subscribe(key)
        assert.isFalse(hints.announcesAll)
        const { record } = yield* store.compareAndSet(key, { event: "Queue" })
        assert.strictEqual(yield* hints.next, record.version)
        const machine = yield* makeReference(key)
        yield* machine.trigger("EXECUTE")
        const { version } = yield* store.read(key)
        assert.strictEqual(yield* hints.next, version)
      }).pipe(Effect.scoped))

    it.effect("can be waited for by either side, whichever side finishes it", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        const machine = yield* makeReference(key)
        yield* query.enqueue
        const ours = yield* Effect.forkChild(query.waitUntilComplete(), { startImmediately: true })
        const theirs = yield* Effect.forkChild(machine.waitUntilComplete, { startImmediately: true })
        yield* query.execute
        yield* machine.trigger("FINISH")
        assert.deepStrictEqual((yield* Fiber.join(ours)).state, QueryState.completed)
        yield* Fiber.join(theirs)

        yield* machine.trigger("RESET")
        const again = yield* Effect.forkChild(query.waitUntilComplete(), { startImmediately: true })
        const theirAgain = yield* Effect.forkChild(machine.waitUntilComplete, { startImmediately: true })
        yield* query.finishResetting
        assert.deepStrictEqual((yield* Fiber.join(again)).state, QueryState.known)
        yield* Fiber.join(theirAgain)
      }))

    it.effect("that executes here is interrupted by a cancel of the reference at the next renewal", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        const machine = yield* makeReference(key)
        yield* query.enqueue
        const work = machine.trigger("CANCEL").pipe(Effect.andThen(Effect.never))
        const error = yield* Effect.flip(query.withExecution(() => work, { lease: "600 millis" }))
        assert.strictEqual(error._tag, "QueryCancelled")
      }))

    it.effect("is run once by run, or joined if the reference runs it", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        const machine = yield* makeReference(key)
        yield* machine.trigger("QUEUE")
        yield* machine.trigger("EXECUTE")
        const run = query.run({ execute: () => Effect.succeed("executed"), result: Effect.succeedSome("fetched") })
        const joined = yield* Effect.forkChild(run, { startImmediately: true })
        yield* machine.trigger("FINISH")
        assert.strictEqual(yield* Fiber.join(joined), "fetched")
        yield* machine.trigger("RESET")
        yield* machine.trigger("FINISH_RESET")
        assert.strictEqual(yield* run, "executed")
        assert.strictEqual(yield* machine.currentState, "completed")
      }))

    it.effect("shows every move of the reference that it has time to read among its changes", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        const machine = yield* makeReference(key)
        const life = ["QUEUE", "EXECUTE", "CANCEL", "RESET", "FINISH_RESET"] as const
        const seen = yield* query.changes.pipe(
          Stream.tap(({ state }) => {
            const next = life[["Known", "Queued", "Executing", "Cancelled", "Resetting"].indexOf(state._tag)]
            return next === undefined ? Effect.void : machine.trigger(next)
          }),
          Stream.take(12),
          Stream.runCollect
        )
        const tags = ["Known", "Queued", "Executing", "Cancelled", "Resetting"]
        assert.deepStrictEqual(seen.map(({ state }) => state._tag as string), [...tags, ...tags, ...tags].slice(0, 12))
        const versions = seen.map(({ version }) => version)
        assert.deepStrictEqual(versions, [...new Set(versions)].toSorted((left, right) => left - right))
      }))

    it.effect("is listed whichever side created it, and only in its database", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const { db } = yield* freshKey
        const [ours, theirs] = yield* Effect.all([freshKey, freshKey])
        yield* driveTo(ours, "Queued")
        yield* makeReference(theirs)
        const found = yield* store.keys(db).pipe(Stream.runCollect)
        const names = found.map(({ query }) => query)
        assert.includeMembers(names, [ours.query, theirs.query])
        assert.isTrue(found.every((key) => key.db === db))
        assert.isFalse(names.some((name) => name.includes("QueryEvent")))
      }))

    it.effect("in an unknown state gives UnknownState to every operation and is unchanged", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        for (const claim of [{}, { lease: "1 hour" }] as const) {
          const key = yield* freshKey
          const { version } = yield* driveTo(key, "Executing", claim)
          yield* withAdmin((admin) => admin.set(stateKey(key), "paused"))
          const fields = yield* withAdmin((admin) => admin.hgetall(recordKey(key)))
          const operations: ReadonlyArray<Effect.Effect<unknown, Parameters<typeof errorFields>[0]>> = [
            store.read(key),
            store.renew(key, version, "1 hour"),
            ...QueryEvent.all.map((event) => store.compareAndSet(key, { event }))
          ]
          for (const operation of operations) {
            assert.strictEqual(errorFields(yield* Effect.flip(operation))["_tag"], "UnknownState")
          }
          assert.include((yield* Effect.flip(store.read(key))).message, `in the Redis key ${stateKey(key)} `)
          assert.strictEqual(yield* withAdmin((admin) => admin.get(stateKey(key))), "paused")
          assert.deepStrictEqual(yield* withAdmin((admin) => admin.hgetall(recordKey(key))), fields)
        }
      }))

    it.effect.each<[part: string, nameOf: (key: QueryKey.QueryKey) => string]>([
      ["state", stateKey],
      ["record", recordKey],
      ["hash of an event", (key) => `${stateKey(key)}:QueryEvent.RESET`]
    ])(
      "whose %s is a list gives WrongType with that key, and no advice to remove it",
      ([, nameOf]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* withAdmin((admin) => admin.rpush(nameOf(key), "queued"))
          const { message, reason } = yield* Effect.flip(store.compareAndSet(key, { event: "Queue" }))
          assert.strictEqual(reason._tag === "WrongType" && reason.redisKey, nameOf(key))
          assert.include(message, `the Redis key ${nameOf(key)} holds another type of value`)
          assert.notMatch(message, /(?<!do not )(remove|delete)/i)
          assert.strictEqual(message.includes("FlowMachine owns this key"), nameOf(key).startsWith("finist:"))
        })
    )

    it.effect.each(QueryEvent.all.map((event) => [event, members[event]] as const))(
      "whose hash of %s is a text is moved by no command, and all its keys stay as they are",
      ([, member]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const held = { holder: "A", lease: "1 hour" } as const
          const lapsing = { holder: "A", lease: Duration.millis(1) } as const
          // Lets the time of the server pass.
          const pass = ({ key }: QueryRecord.QueryRecord) =>
            withAdmin((admin) => admin.blpop(`nothing for ${key.query}`, 0.005))
          // FlowMachine moves the query.
          const begin = ({ key }: QueryRecord.QueryRecord) =>
            withAdmin((admin) => admin.set(stateKey(key), "executing"))
          const attempts: ReadonlyArray<Attempt> = [
            { from: "Known", attempt: ({ key }) => store.compareAndSet(key, { event: "Queue", ...held }) },
            { from: "Known", attempt: ({ key }) => store.compareAndSet(key, { event: ["Queue", "Execute"] }) },
            { from: "Queued", attempt: ({ key }) => store.compareAndSet(key, { event: "Execute" }) },
            {
              from: "Executing",
              claim: held,
              attempt: ({ key, version }) => store.compareAndSet(key, { event: "Finish", fence: version })
            },
            { from: "Executing", claim: held, attempt: ({ key }) => store.compareAndSet(key, { event: "Cancel" }) },
            { from: "Queued", first: begin, attempt: ({ key }) => store.compareAndSet(key, { event: "Finish" }) },
            { from: "Executing", claim: lapsing, first: pass, attempt: ({ key }) => store.read(key) },
            {
              from: "Executing",
              claim: lapsing,
              first: pass,
              attempt: ({ key, version }) => store.renew(key, version, "1 hour")
            },
            {
              from: "Executing",
              claim: lapsing,
              first: pass,
              attempt: ({ key }) => store.compareAndSet(key, { event: "Reset" })
            }
          ]
          for (const [index, { attempt, claim, first, from }] of attempts.entries()) {
            const key = yield* freshKey
            const record = yield* driveTo(key, from, claim)
            const hash = `${stateKey(key)}:QueryEvent.${member}`
            yield* withAdmin((admin) => admin.set(hash, "no hash"))
            yield* first?.(record) ?? Effect.void
            const before = yield* dumped(key)
            const error = yield* Effect.flip(attempt(record))
            const { reason } = error._tag === "RedisStoreError" ? error : assert.fail(error.message)
            assert.strictEqual(reason._tag === "WrongType" && reason.redisKey, hash, `attempt ${index}`)
            assert.deepStrictEqual(yield* dumped(key), before, `attempt ${index}`)
          }
        }).pipe(Effect.provide(RedisStoreFlowMachine.layer({ url, history: { length: 5 } })))
    )

    it.effect("names the Redis key of a state that is unknown, and of a record that cannot be read", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const [odd, broken] = yield* Effect.all([freshKey, freshKey])
        yield* withAdmin((admin) => admin.set(stateKey(odd), "paused"))
        yield* withAdmin((admin) => admin.hset(recordKey(broken), "s", "queued", "v", "soon"))
        const unknown = yield* Effect.flip(store.read(odd))
        assert.deepStrictEqual(
          unknown.reason,
          new RedisStoreError.UnknownState({ raw: "paused", redisKey: stateKey(odd) })
        )
        const invalid = yield* Effect.flip(store.read(broken))
        assert.strictEqual(
          invalid.reason._tag === "InvalidRecord" && invalid.reason.redisKey,
          recordKey(broken)
        )
      }))
  }
)

it.layer(SharedLayer, { excludeTestServices: true, timeout: "30 seconds" })("With a released FlowMachine", (it) => {
  it.effect("a purge that fails reports its failure, and leaves the query Resetting", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      yield* driveTo(key, "Completed")
      const failure = yield* Effect.flip(query.withReset(() => Effect.fail("the table is locked")))
      assert.strictEqual(failure, "the table is locked")
      const machine = yield* makeReference(key)
      assert.strictEqual(yield* machine.currentState, "resetting")
      assert.isTrue(yield* query.isResetting)
      assert.deepStrictEqual(yield* machine.trigger("ERROR"), { state: "resetting", changed: false })
    }))

  it.effect("a purge whose lease lapses is Errored for both sides, and a late holder cannot finish it", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const machine = yield* makeReference(key)
      const { version } = yield* driveTo(key, "Resetting", { holder: "worker 1", lease: "20 millis" })
      const record = yield* Effect.repeat(store.read(key), {
        schedule: Schedule.spaced("5 millis"),
        until: (record) => record.version > version
      })
      assert.deepStrictEqual(
        record.state,
        QueryState.make("Errored", { reason: Reason.leaseExpired("worker 1") })
      )
      const late = yield* Effect.flip(store.compareAndSet(key, { event: "FinishReset", fence: version }))
      assert.deepStrictEqual(errorFields(late), { _tag: "LeaseLost", fence: version, record })
      yield* machine.waitUntilComplete
      const other = yield* freshKey
      yield* driveReference(yield* makeReference(other), "Errored")
      assert.deepStrictEqual(yield* stored(key), yield* stored(other))
      assert.deepStrictEqual(yield* machine.trigger("RESET"), { state: "resetting", changed: true })
    }))

  it.effect("a purge whose holder died is claimed again, by run and by withReset", () =>
    Effect.gen(function*() {
      const keys = yield* Effect.all([freshKey, freshKey])
      const [run, reset] = yield* Effect.all([QueryStateMachine.make(keys[0]), QueryStateMachine.make(keys[1])])
      for (const key of keys) yield* driveTo(key, "Resetting", { holder: "worker 1", lease: "20 millis" })
      const purges: Array<string> = []
      const purge = (name: string) => () => Effect.sync(() => void purges.push(name))
      assert.strictEqual(
        yield* run.run({
          execute: () => Effect.succeed("executed"),
          result: Effect.succeedSome("fetched"),
          purge: purge("run")
        }),
        "executed"
      )
      yield* reset.waitUntilComplete()
      yield* reset.withReset(purge("withReset"))
      assert.deepStrictEqual(purges, ["run", "withReset"])
      assert.isTrue(yield* reset.isKnown)
    }))

  it.effect("a purge of FlowMachine has no lease, and stays Resetting", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const [theirs, ours] = yield* Effect.all([freshKey, freshKey])
      yield* driveReference(yield* makeReference(theirs), "Resetting")
      yield* driveTo(ours, "Resetting", { lease: "1 millis" })
      yield* Effect.repeat(store.read(ours), { until: ({ state }) => state._tag === "Errored" })
      assert.deepStrictEqual((yield* store.read(theirs)).state, QueryState.make("Resetting"))
    }))

  it.effect("a query that a development version left ResetFailed is read, and can be reset", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* withAdmin((admin) => admin.set(stateKey(key), "reset_failed"))
      assert.deepStrictEqual(
        (yield* store.read(key)).state,
        QueryState.make("ResetFailed", { reason: Reason.unrecorded })
      )
      assert.deepStrictEqual((yield* store.compareAndSet(key, { event: "Reset" })).record.state._tag, "Resetting")
    }))
})

it.layer(DevelopmentLayer, {
  excludeTestServices: true,
  timeout: "30 seconds"
})("With a FlowMachine that has ResetFailed", (it) => {
  it.effect("the hashes match that version, also when a released one made them before", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const [fresh, made] = yield* Effect.all([freshKey, freshKey])
      yield* makeReference(made)
      for (const key of [fresh, made]) {
        yield* store.compareAndSet(key, { event: "Queue" })
        const contents = new Map((yield* stored(key)).map(([name, content]) => [name, content]))
        assert.deepStrictEqual(contents.get(":QueryEvent.ERROR"), {
          executing: "errored",
          resetting: "reset_failed"
        })
        assert.deepStrictEqual(contents.get(":QueryEvent.RESET"), {
          cancelled: "resetting",
          completed: "resetting",
          errored: "resetting",
          reset_failed: "resetting"
        })
        assert.strictEqual(contents.size, 8)
      }
    }))

  it.effect("a purge that fails is ResetFailed, with its cause", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      yield* driveTo(key, "Completed")
      const result = yield* Effect.result(query.withReset(() => Effect.fail("the table is locked")))
      assert.deepStrictEqual(result, Result.fail("the table is locked"))
      assert.isTrue(yield* query.isResetFailed)
    }))
})

it.live("A claim outlasts a server that stores its data and loads it again", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire({ args: ["--enable-debug-command", "yes"] })
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const record = yield* driveTo(key, "Executing", { holder: "worker 1", lease: "1 hour" })
      yield* Effect.promise(() => admin.call("DEBUG", "RELOAD"))
      assert.deepStrictEqual(yield* store.read(key), record)
      assert.isTrue((yield* store.compareAndSet(key, { event: "Finish", fence: record.version })).changed)
    }).pipe(Effect.provide(RedisStoreFlowMachine.layer({ url: Redacted.make(url) })))
  }))
