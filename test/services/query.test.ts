/** Queries with a typed result, in memory and in Redis. */
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { DateTime, Deferred, Effect, Exit, Fiber, Layer, Option, Redacted, Ref, Schema, Scope } from "effect"
import {
  Query,
  QueryError,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import * as RedisServer from "../support/RedisServer.ts"

class WarehouseDown extends Schema.TaggedError<WarehouseDown>()("WarehouseDown", { since: Schema.DateTimeUtc }) {}

let names = 0

/** A query of a name of its own, so that no test meets the records of another. */
const declare = (options?: { readonly timeToLive?: string; readonly maxBytes?: number }) =>
  Query.make(`Totals${names++}`, {
    db: "warehouse",
    payload: { day: Schema.String, limit: Schema.optionalKey(Schema.Int) },
    success: Schema.Struct({ rows: Schema.Int, at: Schema.DateTimeUtc }),
    error: WarehouseDown,
    ...options as {}
  })

type Totals = ReturnType<typeof declare>

const at = DateTime.makeUnsafe("2026-11-24T00:00:00Z")
const result = { rows: 7, at }

/** Another process with the same store: its handlers are its own, and it shares no claims. */
const elsewhere = Effect.updateService(RedisStore.RedisStore, (store) => ({ ...store }))

/** Handlers of one process, until the scope of the test is closed. */
const process = <I, E, R>(layer: Layer.Layer<I, E, R>) =>
  Effect.flatMap(Effect.scope, (scope) => Layer.buildWithScope(Layer.fresh(layer), scope))

const counting = (query: Totals, options?: Query.HandlerOptions) =>
  Effect.gen(function*() {
    const runs = yield* Ref.make(0)
    const layer = query.toLayer(() =>
      Ref.update(runs, (count) => count + 1).pipe(
        Effect.andThen(Effect.sleep("20 millis")),
        Effect.as(result)
      ), options)
    return { runs: Ref.get(runs), layer }
  })

const stores: ReadonlyArray<[name: string, store: Layer.Layer<RedisStore.RedisStore, unknown>]> = [
  ["in memory", RedisStoreMemory.layer],
  [
    "in Redis",
    Layer.unwrap(Effect.map(RedisServer.acquire(), ({ url }) => RedisStoreLive.layer({ url: Redacted.make(url) })))
  ]
]

describe.each(stores)("A query with a typed result, %s", (_, store) => {
  it.layer(store, { excludeTestServices: true, timeout: "30 seconds" })("", (it) => {
    it.effect("is run once in the fleet, and all get its decoded result", () =>
      Effect.gen(function*() {
        const query = declare()
        const { layer, runs } = yield* counting(query)
        const processes = [yield* process(layer), yield* elsewhere(process(layer))]
        const results = yield* Effect.forEach(
          [0, 1, 0, 1, 0, 1],
          (index) => Effect.provideContext(query.run({ day: "monday" }), processes[index] ?? assert.fail()),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(results, results.map(() => result))
        assert.strictEqual(yield* runs, 1)
        // Later, and by one who only looks.
        assert.deepStrictEqual(yield* query.await({ day: "monday" }), result)
        assert.deepStrictEqual(yield* query.poll({ day: "monday" }), Option.some(Exit.succeed(result)))
        assert.deepStrictEqual(yield* query.poll({ day: "tuesday" }), Option.none())
      }))

    it.effect("fails with its declared error for all, and is not run again", () =>
      Effect.gen(function*() {
        const query = declare()
        const runs = yield* Ref.make(0)
        const layer = query.toLayer(() =>
          Ref.update(runs, (count) => count + 1).pipe(
            Effect.andThen(Effect.sleep("20 millis")),
            Effect.andThen(new WarehouseDown({ since: at }))
          )
        )
        const processes = [yield* process(layer), yield* elsewhere(process(layer))]
        const exits = yield* Effect.forEach(
          [0, 1, 0, 1],
          (index) =>
            Effect.exit(Effect.provideContext(query.run({ day: "monday" }), processes[index] ?? assert.fail())),
          { concurrency: "unbounded" }
        )
        const down = Exit.fail(new WarehouseDown({ since: at }))
        assert.deepStrictEqual(exits, exits.map(() => down))
        assert.deepStrictEqual(yield* query.poll({ day: "monday" }), Option.some(down))
        assert.deepStrictEqual(yield* Effect.exit(query.await({ day: "monday" })), down)
        assert.strictEqual(yield* Ref.get(runs), 1)
      }))

    it.effect("that dies fails with QueryErrored elsewhere, and its defect does not travel", () =>
      Effect.gen(function*() {
        const query = declare()
        const here = yield* process(query.toLayer(() => Effect.die(new Error("a secret of the process"))))
        const exit = yield* Effect.exit(Effect.provideContext(query.run({ day: "monday" }), here))
        assert.isTrue(Exit.hasDies(exit))
        const error = yield* Effect.flip(query.await({ day: "monday" }))
        assert.strictEqual(error._tag, "QueryErrored")
        assert.deepStrictEqual(yield* query.poll({ day: "monday" }), Option.none())
      }))

    it.effect("goes on when its callers have gone", () =>
      Effect.gen(function*() {
        const query = declare()
        const { layer, runs } = yield* counting(query)
        const here = yield* process(layer)
        const caller = yield* Effect.forkChild(Effect.provideContext(query.run({ day: "monday" }), here))
        yield* Effect.repeat(runs, { until: (count) => count === 1 })
        yield* Fiber.interrupt(caller)
        assert.deepStrictEqual(yield* query.await({ day: "monday" }), result)
        assert.strictEqual(yield* runs, 1)
      }))

    it.effect("is handed over when the layer that runs it closes", () =>
      Effect.gen(function*() {
        const query = declare()
        const begun = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        const stopping = yield* Layer.buildWithScope(
          query.toLayer(() => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)),
          scope
        )
        const { layer } = yield* counting(query)
        const other = yield* elsewhere(process(layer))
        yield* Effect.forkChild(Effect.provideContext(query.run({ day: "monday" }), stopping))
        yield* Deferred.await(begun)
        const joiner = yield* Effect.forkChild(Effect.provideContext(query.run({ day: "monday" }), other))
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* Fiber.join(joiner), result)
      }))

    it.effect("is interrupted some time after its last caller has gone, where that is wanted", () =>
      Effect.gen(function*() {
        const query = declare()
        const interrupted = yield* Deferred.make<void>()
        const begun = yield* Deferred.make<void>()
        const here = yield* process(query.toLayer(() =>
          Effect.onInterrupt(
            Effect.andThen(Deferred.succeed(begun, undefined), Effect.never),
            () => Deferred.succeed(interrupted, undefined)
          ), { abandonAfter: "10 millis" }))
        const run = Effect.forkChild(Effect.provideContext(query.run({ day: "monday" }), here))
        const callers = yield* Effect.all([run, run])
        yield* Deferred.await(begun)
        yield* Fiber.interrupt(callers[0])
        assert.isFalse(yield* Deferred.isDone(interrupted))
        yield* Fiber.interrupt(callers[1])
        yield* Deferred.await(interrupted)
      }))

    it.effect("has the same key for equal payloads, whatever the order of their fields, and says what it is", () =>
      Effect.gen(function*() {
        const query = declare()
        assert.deepStrictEqual(
          yield* query.key({ day: "monday", limit: 3 }),
          yield* query.key({ limit: 3, day: "monday" })
        )
        assert.notDeepEqual(yield* query.key({ day: "monday" }), yield* query.key({ day: "tuesday" }))
        const { layer } = yield* counting(query)
        const long = "x".repeat(2000)
        yield* Effect.provideContext(query.run({ day: long }), yield* process(layer))
        const key = yield* query.key({ day: long })
        assert.match(key.query, /^Totals\d+ [\da-f]{64}$/)
        const { label } = yield* (yield* QueryStateMachine.make(key)).record
        assert.match(label ?? "", /^Totals\d+ xxx/)
        assert.strictEqual(label?.length, 1024)
      }))

    it.effect("whose result is too large fails with ResultTooLarge for all, once", () =>
      Effect.gen(function*() {
        const query = Query.make(`Large${names++}`, {
          db: "warehouse",
          payload: { day: Schema.String },
          success: Schema.String,
          maxBytes: 100
        })
        const runs = yield* Ref.make(0)
        const here = yield* process(
          query.toLayer(() => Effect.as(Ref.update(runs, (count) => count + 1), "é".repeat(50)))
        )
        for (let callers = 0; callers < 3; callers++) {
          const error = yield* Effect.flip(Effect.provideContext(query.run({ day: "monday" }), here))
          const key = yield* query.key({ day: "monday" })
          assert.deepStrictEqual(error, new Query.ResultTooLarge({ key, bytes: 102, maxBytes: 100 }))
        }
        assert.strictEqual((yield* Effect.flip(query.await({ day: "monday" })))._tag, "ResultTooLarge")
        assert.strictEqual(yield* Ref.get(runs), 1)
      }))

    it.effect("whose result its schema refuses is Errored, and nobody hangs", () =>
      Effect.gen(function*() {
        const query = declare()
        const here = yield* process(query.toLayer(() => Effect.succeed({ rows: 0.5, at })))
        const exit = yield* Effect.exit(Effect.provideContext(query.run({ day: "monday" }), here))
        assert.isTrue(Exit.hasDies(exit))
        assert.strictEqual((yield* Effect.flip(query.await({ day: "monday" })))._tag, "QueryErrored")
      }))

    it.effect("whose result the schema of a new version cannot read is run again, once", () =>
      Effect.gen(function*() {
        const name = `Changing${names++}`
        const before = Query.make(name, { db: "warehouse", payload: { day: Schema.String }, success: Schema.Int })
        const after = Query.make(name, { db: "warehouse", payload: { day: Schema.String }, success: Schema.String })
        const runs = yield* Ref.make(0)
        yield* Effect.provideContext(
          before.run({ day: "monday" }),
          yield* process(before.toLayer(() => Effect.succeed(7)))
        )
        const here = yield* process(
          after.toLayer(() => Effect.as(Ref.update(runs, (count) => count + 1), "seven"))
        )
        const results = yield* Effect.replicateEffect(
          Effect.provideContext(after.run({ day: "monday" }), here),
          10,
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual([...new Set(results)], ["seven"])
        assert.strictEqual(yield* Ref.get(runs), 1)
      }))

    it.effect("is run again once it was invalidated, and an invalidation leaves a run alone", () =>
      Effect.gen(function*() {
        const query = declare()
        const { layer, runs } = yield* counting(query)
        const here = yield* process(layer)
        const run = Effect.provideContext(query.run({ day: "monday" }), here)
        yield* run
        yield* query.invalidate({ day: "monday" })
        assert.deepStrictEqual(yield* query.poll({ day: "monday" }), Option.none())
        const running = yield* Effect.forkChild(run)
        yield* Effect.repeat(runs, { until: (count) => count === 2 })
        yield* query.invalidate({ day: "monday" })
        assert.deepStrictEqual(yield* Fiber.join(running), result)
        assert.strictEqual(yield* runs, 2)
      }))

    it.effect("can be cancelled for all who wait", () =>
      Effect.gen(function*() {
        const query = declare()
        const begun = yield* Deferred.make<void>()
        const here = yield* process(
          query.toLayer(() => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never))
        )
        assert.isFalse(yield* query.cancel({ day: "monday" }))
        const running = yield* Effect.forkChild(Effect.provideContext(query.run({ day: "monday" }), here))
        yield* Deferred.await(begun)
        const waiting = yield* Effect.forkChild(query.await({ day: "monday" }))
        assert.isTrue(yield* query.cancel({ day: "monday" }, { by: "ada" }))
        const key = yield* query.key({ day: "monday" })
        const cancelled = Exit.fail(new QueryError.QueryCancelled({ key, reason: Reason.requested({ by: "ada" }) }))
        assert.deepStrictEqual(yield* Fiber.await(running), cancelled)
        assert.deepStrictEqual(yield* Fiber.await(waiting), cancelled)
      }))

    it.effect("answers an old result at once, and makes it anew once behind it", () =>
      Effect.gen(function*() {
        const query = declare()
        const { layer, runs } = yield* counting(query)
        const here = yield* process(layer)
        const run = (options?: Query.RunOptions) => Effect.provideContext(query.run({ day: "monday" }, options), here)
        yield* run()
        yield* Effect.sleep("5 millis")
        const [first] = yield* Effect.all(
          Array.from({ length: 10 }, () => run({ maxAge: "1 millis", staleFor: "1 hour" })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(first, result)
        yield* Effect.repeat(runs, { until: (count) => count === 2 })
        yield* run()
        assert.strictEqual(yield* runs, 2)
      }))

    it.effect("that expired is run again", () =>
      Effect.gen(function*() {
        const query = declare({ timeToLive: "30 millis" })
        const { layer, runs } = yield* counting(query)
        const here = yield* process(layer)
        yield* Effect.provideContext(query.run({ day: "monday" }), here)
        yield* Effect.repeat(query.poll({ day: "monday" }), { until: Option.isNone })
        yield* Effect.provideContext(query.run({ day: "monday" }), here)
        assert.strictEqual(yield* runs, 2)
      }))

    it.effect("refuses a payload that its schema refuses", () =>
      Effect.gen(function*() {
        const query = declare()
        const error = yield* Effect.flip(query.poll({ day: "monday", limit: 0.5 }))
        assert.strictEqual(error.reason._tag, "InvalidInput")
      }))
  })
})

it("the types of a run are those that were declared", () => {
  const query = declare()
  const run = query.run({ day: "monday" })
  expectTypeOf<Effect.Success<typeof run>>().toEqualTypeOf<{ readonly rows: number; readonly at: DateTime.Utc }>()
  expectTypeOf<Effect.Error<typeof run>>().toEqualTypeOf<WarehouseDown | Query.RunError>()
  const Named = Query.make("Named", { db: "warehouse", payload: {} })
  expectTypeOf(Named.run({})).toEqualTypeOf<Effect.Effect<void, Query.RunError, Query.Handler<"Named">>>()
  // What handles it has to be provided, or the program does not compile.
  expectTypeOf<Effect.Services<ReturnType<typeof Named.run>>>().not.toExtend<RedisStore.RedisStore>()
  expectTypeOf(Named.toLayer(() => Effect.void)).toEqualTypeOf<
    Layer.Layer<Query.Handler<"Named">, never, RedisStore.RedisStore>
  >()
})
