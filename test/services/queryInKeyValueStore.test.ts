/** Queries whose results are in a `KeyValueStore`. */
import { NodeFileSystem, NodePath } from "@effect/platform-node"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, FileSystem, Layer, Option, Redacted, Ref, Schema, Scope } from "effect"
import { Query, RedisStore, RedisStoreLive, RedisStoreMemory } from "effect-query-state"
import { KeyValueStore } from "effect/persistence"
import { inject } from "vitest"
import * as ResultEntries from "../../src/services/internal/resultEntries.ts"

let names = 0

class WarehouseDown extends Schema.TaggedError<WarehouseDown>()("WarehouseDown", {}) {}

const declare = (
  { name = `Large${names++} ${globalThis.process.pid}`, ...options }: {
    readonly name?: string
    readonly maxBytes?: number
    readonly timeToLive?: "30 millis"
  } = {}
) =>
  Query.make(name, {
    db: "warehouse",
    payload: { day: Schema.String },
    success: Schema.String,
    error: WarehouseDown,
    results: "KeyValueStore",
    ...options
  })

/** Another process with the same store: its handlers are its own, and it shares no claims. */
const elsewhere = Effect.updateService(RedisStore.RedisStore, (store) => ({ ...store }))

const process = <I, E, R>(layer: Layer.Layer<I, E, R>) =>
  Effect.flatMap(Effect.scope, (scope) => Layer.buildWithScope(Layer.fresh(layer), scope))

const payload = { day: "monday" }

const inFiles = Layer.unwrap(Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  return KeyValueStore.layerFileSystem(yield* files.makeTempDirectoryScoped())
})).pipe(Layer.provide([NodeFileSystem.layer, NodePath.layer]))

const inRedis = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })

const layers: ReadonlyArray<
  [name: string, layer: Layer.Layer<RedisStore.RedisStore | KeyValueStore.KeyValueStore, unknown>]
> = [
  ["memory", Layer.merge(RedisStoreMemory.layer, KeyValueStore.layerMemory)],
  ["files", Layer.merge(inRedis, inFiles)]
]

/** The texts of all results, without the lists beside them. */
const texts = Effect.gen(function*() {
  const entries = yield* KeyValueStore.KeyValueStore
  const keys = (yield* entries.keys).filter((key) => /-\d+$/.test(key))
  return yield* Effect.forEach(keys, (key) => entries.get(key))
})

describe.each(layers)("A query whose results are in a KeyValueStore, in %s", (_, layer) => {
  it.live.each<[what: string, text: string]>([["large", "é".repeat(200_000)], ["empty", ""]])(
    "is run once in the fleet, and all get its result, however large it is: %s",
    ([, text]) =>
      Effect.gen(function*() {
        const query = declare()
        const runs = yield* Ref.make(0)
        const layer = query.toLayer(() =>
          Ref.update(runs, (count) => count + 1).pipe(Effect.andThen(Effect.sleep("20 millis")), Effect.as(text))
        )
        const processes = [yield* process(layer), yield* elsewhere(process(layer))]
        const results = yield* Effect.forEach(
          [0, 1, 0, 1],
          (index) => Effect.provideContext(query.run(payload), processes[index] ?? assert.fail()),
          { concurrency: "unbounded" }
        )
        assert.isTrue(results.every((result) => result === text))
        assert.strictEqual(yield* Ref.get(runs), 1)
        assert.strictEqual(yield* query.await(payload), text)
        assert.deepStrictEqual(yield* query.poll(payload), Option.some(Exit.succeed(text)))
        // Beside the record there is only where the result is.
        const store = yield* RedisStore.RedisStore
        const { success } = yield* store.results(yield* query.key(payload))
        assert.match(success?.text ?? "", /^query-state-[\da-f]{64}-\d+$/)
        yield* query.invalidate(payload)
        assert.deepStrictEqual(yield* query.poll(payload), Option.none())
        const entries = yield* KeyValueStore.KeyValueStore
        assert.strictEqual(yield* entries.size, 0)
      }).pipe(Effect.provide(layer))
  )

  it.live("keeps the entry of the last success, and of a failure after it, and no other", () =>
    Effect.gen(function*() {
      const query = declare()
      const outcomes = [Effect.succeed("one"), Effect.succeed("two"), Effect.fail(new WarehouseDown())]
      const here = yield* process(query.toLayer(() => outcomes.shift() ?? Effect.succeed("last")))
      const run = Effect.provideContext(query.run(payload, { maxAge: 0 }), here)
      const again = Effect.andThen(Effect.sleep("2 millis"), run)
      assert.strictEqual(yield* run, "one")
      assert.deepStrictEqual(yield* texts, [`"one"`])
      assert.strictEqual(yield* again, "two")
      assert.deepStrictEqual(yield* texts, [`"two"`])
      assert.strictEqual((yield* Effect.flip(again))._tag, "WarehouseDown")
      assert.strictEqual((yield* texts).length, 2)
      assert.strictEqual((yield* Effect.flip(query.await(payload)))._tag, "WarehouseDown")
      yield* query.invalidate(payload)
      assert.deepStrictEqual(yield* texts, [])
      assert.strictEqual(yield* again, "last")
      assert.deepStrictEqual(yield* texts, [`"last"`])
    }).pipe(Effect.provide(layer)))

  it.live("removes what a run has left that died, and what has expired, once it is run again", () =>
    Effect.gen(function*() {
      const name = `Expiring${names++} ${globalThis.process.pid}`
      const expiring = declare({ timeToLive: "30 millis", name })
      const query = declare({ name })
      const store = yield* RedisStore.RedisStore
      const entries = yield* KeyValueStore.KeyValueStore
      const key = yield* query.key(payload)
      // The entry is there before the record is, so a reader of the record finds it.
      const isWritten = Effect.repeat(texts, { until: (texts) => texts.length === 1 })
      const begun = yield* process(expiring.toLayer(() => Effect.succeed("expired")))
      yield* Effect.forkChild(Effect.provideContext(expiring.run(payload), begun))
      yield* isWritten
      yield* Effect.repeat(store.read(key), { until: ({ version }) => version === 0 })

      // A process that writes its entry, and dies before it finishes.
      const { record: { version: fence } } = yield* store.compareAndSet(key, { event: ["Queue", "Execute"] })
      yield* ResultEntries.make(store, entries).write(key, fence, `"never finished"`)
      yield* store.compareAndSet(key, { event: ["Cancel", "Reset", "FinishReset"] })

      const here = yield* process(query.toLayer(() => Effect.succeed("result")))
      assert.strictEqual(yield* Effect.provideContext(query.run(payload), here), "result")
      assert.deepStrictEqual(yield* texts, [`"result"`])
      assert.strictEqual(yield* entries.size, 2)
    }).pipe(Effect.provide(layer)))

  it.live("is run again where its entry is gone", () =>
    Effect.gen(function*() {
      const query = declare()
      const runs = yield* Ref.make(0)
      const here = yield* process(query.toLayer(() => Effect.as(Ref.update(runs, (count) => count + 1), "result")))
      const entries = yield* KeyValueStore.KeyValueStore
      const run = Effect.provideContext(query.run(payload), here)
      yield* run
      yield* entries.clear
      assert.deepStrictEqual(yield* query.poll(payload), Option.none())
      const results = yield* Effect.all([run, run, run], { concurrency: "unbounded" })
      assert.deepStrictEqual(results, ["result", "result", "result"])
      assert.strictEqual(yield* Ref.get(runs), 2)
    }).pipe(Effect.provide(layer)))

  it.live("keeps nothing of a run that is interrupted while it writes, and hands it over", () =>
    Effect.gen(function*() {
      const query = declare()
      const layer = query.toLayer(() => Effect.succeed("result"))
      const isWriting = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      const stopping = yield* Layer.buildWithScope(layer, scope).pipe(
        Effect.updateService(KeyValueStore.KeyValueStore, (entries) => ({
          ...entries,
          set: (key, value) =>
            /-\d+$/.test(key)
              ? Effect.andThen(Deferred.succeed(isWriting, undefined), Effect.never)
              : entries.set(key, value)
        }))
      )
      const running = yield* Effect.forkChild(Effect.provideContext(query.run(payload), stopping))
      yield* Deferred.await(isWriting)
      const other = yield* elsewhere(process(layer))
      const joining = yield* Effect.forkChild(Effect.provideContext(query.run(payload), other))
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.await(running)
      assert.strictEqual(yield* Fiber.join(joining), "result")
      assert.deepStrictEqual(yield* texts, [`"result"`])
    }).pipe(Effect.provide(layer)))

  it.live("fails typed where its entries cannot be written or read", () =>
    Effect.gen(function*() {
      const query = declare()
      const layer = query.toLayer(() => Effect.succeed("result"))
      const broken = new KeyValueStore.KeyValueStoreError({ message: "the disk is full", method: "set" })
      const unwritable = yield* process(layer).pipe(
        Effect.updateService(KeyValueStore.KeyValueStore, (entries) => ({ ...entries, set: () => Effect.fail(broken) }))
      )
      assert.strictEqual(yield* Effect.flip(Effect.provideContext(query.run(payload), unwritable)), broken)
      assert.strictEqual((yield* Effect.flip(query.await(payload)))._tag, "QueryErrored")
      yield* query.invalidate(payload)
      yield* Effect.provideContext(query.run(payload), yield* process(layer))
      const unreadable = Effect.updateService(KeyValueStore.KeyValueStore, (entries: KeyValueStore.KeyValueStore) => ({
        ...entries,
        get: () => Effect.fail(broken)
      }))
      assert.strictEqual(yield* Effect.flip(unreadable(query.poll(payload))), broken)
      const store = yield* RedisStore.RedisStore
      const { version } = yield* store.read(yield* query.key(payload))
      const here = yield* unreadable(process(layer))
      assert.strictEqual(yield* Effect.flip(Effect.provideContext(query.run(payload), here)), broken)
      // It is not taken for missing.
      assert.strictEqual((yield* store.read(yield* query.key(payload))).version, version)
    }).pipe(Effect.provide(layer)))

  it.live("has a limit only where one is declared", () =>
    Effect.gen(function*() {
      const query = declare({ maxBytes: 100 })
      const here = yield* process(query.toLayer(() => Effect.succeed("x".repeat(100))))
      const error = yield* Effect.flip(Effect.provideContext(query.run(payload), here))
      const key = yield* query.key(payload)
      assert.deepStrictEqual(error, new Query.ResultTooLarge({ key, bytes: 102, maxBytes: 100 }))
      assert.deepStrictEqual(yield* Effect.flip(query.await(payload)), error)
    }).pipe(Effect.provide(layer)))
})

it("the types ask for a KeyValueStore where results are read or written, and nowhere else", () => {
  const query = declare()
  type Services = RedisStore.RedisStore | KeyValueStore.KeyValueStore
  expectTypeOf(query.await(payload)).toEqualTypeOf<
    Effect.Effect<string, WarehouseDown | Query.RunError | KeyValueStore.KeyValueStoreError, Services>
  >()
  expectTypeOf<Effect.Services<ReturnType<typeof query.poll>>>().toEqualTypeOf<Services>()
  expectTypeOf<Effect.Services<ReturnType<typeof query.invalidate>>>().toEqualTypeOf<Services>()
  expectTypeOf<Effect.Services<ReturnType<typeof query.cancel>>>().toEqualTypeOf<RedisStore.RedisStore>()
  expectTypeOf<Effect.Error<ReturnType<typeof query.run>>>().toEqualTypeOf<
    WarehouseDown | Query.RunError | KeyValueStore.KeyValueStoreError
  >()
  expectTypeOf<Layer.Services<ReturnType<typeof query.toLayer<never>>>>().toEqualTypeOf<Services>()
})
