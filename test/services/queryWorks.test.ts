/** Whose work is whose: callers that come and go, layers that close, and queries that run others. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Latch, Layer, Ref, Schema, Scope } from "effect"
import { Query, QueryStateMachine, RedisStore, RedisStoreMemory } from "effect-query-state"
import { TestClock } from "effect/testing"
import { make, parentOf } from "./Spans.ts"

const payload = { day: "monday" }

const declare = (name: string) =>
  Query.make(name, { db: "warehouse", payload: { day: Schema.String }, success: Schema.String })

const process = <I, E, R>(layer: Layer.Layer<I, E, R>) =>
  Effect.flatMap(Effect.scope, (scope) => Layer.buildWithScope(Layer.fresh(layer), scope))

const inMemory = Effect.provide(RedisStoreMemory.layer)

it.live("callers of a layer that closes are interrupted, and none hangs", () =>
  Effect.gen(function*() {
    const query = declare("Closing")
    const begun = yield* Deferred.make<void>()
    const scope = yield* Scope.make()
    const here = yield* Layer.buildWithScope(
      query.toLayer(() => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)),
      scope
    )
    const run = Effect.provideContext(query.run(payload), here)
    const callers = yield* Effect.replicateEffect(Effect.forkChild(run, { startImmediately: true }), 3)
    yield* Deferred.await(begun)
    yield* Scope.close(scope, Exit.void)
    const exits = yield* Effect.forEach(callers, Fiber.await)
    assert.deepStrictEqual(exits.map(Exit.hasInterrupts), [true, true, true])
    // Nor does one that comes afterwards.
    assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(run)))
    const { state } = yield* (yield* QueryStateMachine.make(yield* query.key(payload))).record
    assert.strictEqual(state._tag === "Cancelled" && state.reason._tag, "Interrupted")
  }).pipe(inMemory))

it.live("the layer closes while a caller waits for a run of another process, which ends the wait", () =>
  Effect.gen(function*() {
    const query = declare("Elsewhere")
    const store = yield* RedisStore.RedisStore
    const key = yield* query.key(payload)
    const { record } = yield* store.compareAndSet(key, { event: ["Queue", "Execute"], lease: "1 hour" })
    const scope = yield* Scope.make()
    const isWaiting = yield* Deferred.make<void>()
    const here = yield* Layer.buildWithScope(query.toLayer(() => Effect.succeed("here")), scope).pipe(
      Effect.provideService(RedisStore.RedisStore, {
        ...store,
        changes: (key, listener) => Effect.tap(store.changes(key, listener), Deferred.succeed(isWaiting, undefined))
      })
    )
    const waiting = yield* Effect.forkChild(Effect.provideContext(query.run(payload), here), { startImmediately: true })
    yield* Deferred.await(isWaiting)
    yield* Scope.close(scope, Exit.void)
    yield* store.compareAndSet(key, {
      event: "Finish",
      fence: record.version,
      result: { _tag: "Leave", text: `"there"` }
    })
    assert.strictEqual(yield* Fiber.join(waiting), "there")
  }).pipe(inMemory))

it.live("a caller that is interrupted at any moment leaves a run that ends", () =>
  Effect.gen(function*() {
    const query = declare("Interrupted")
    const runs = yield* Ref.make(0)
    const here = yield* process(
      query.toLayer(() => Effect.as(Effect.andThen(Ref.update(runs, (count) => count + 1), Effect.yieldNow), "result"))
    )
    for (let moment = 0; moment < 60; moment++) {
      const payload = { day: `${moment}` }
      const caller = yield* Effect.forkChild(Effect.provideContext(query.run(payload), here))
      for (let step = 0; step < moment; step++) yield* Effect.yieldNow
      yield* Fiber.interrupt(caller)
      // What it has begun ends by itself; what it has not begun is run by the next.
      assert.strictEqual(yield* Effect.provideContext(query.run(payload), here), "result")
    }
    assert.isAtMost(yield* Ref.get(runs), 60)
  }).pipe(inMemory))

it.live("work is not abandoned where a caller comes back in time, and is once that has gone, too", () =>
  Effect.gen(function*() {
    const query = declare("Abandoned")
    const begun = yield* Deferred.make<void>()
    const interrupted = yield* Deferred.make<void>()
    const here = yield* process(query.toLayer(() =>
      Effect.onInterrupt(
        Effect.andThen(Deferred.succeed(begun, undefined), Effect.never),
        () => Deferred.succeed(interrupted, undefined)
      ), { abandonAfter: "50 millis" }))
    const run = Effect.forkChild(Effect.provideContext(query.run(payload), here), { startImmediately: true })
    const first = yield* run
    yield* Deferred.await(begun)
    yield* Fiber.interrupt(first)
    const second = yield* run
    // Longer than it takes to abandon.
    yield* Effect.sleep("100 millis")
    assert.isFalse(yield* Deferred.isDone(interrupted))
    yield* Fiber.interrupt(second)
    yield* Deferred.await(interrupted)
  }).pipe(inMemory))

it.effect("work is abandoned only once its last caller has been gone for that long", () =>
  Effect.gen(function*() {
    const query = declare("Returning")
    const begun = yield* Deferred.make<void>()
    const interrupted = yield* Ref.make(0)
    const here = yield* process(query.toLayer(() =>
      Effect.onInterrupt(
        Effect.andThen(Deferred.succeed(begun, undefined), Effect.never),
        () => Ref.update(interrupted, (count) => count + 1)
      ), { abandonAfter: "10 seconds" }))
    const run = Effect.forkChild(Effect.provideContext(query.run(payload), here), { startImmediately: true })
    const first = yield* run
    yield* Deferred.await(begun)
    yield* Fiber.interrupt(first)
    yield* TestClock.adjust("5 seconds")
    const second = yield* run
    yield* Effect.yieldNow
    yield* Fiber.interrupt(second)
    yield* TestClock.adjust("9 seconds")
    assert.strictEqual(yield* Ref.get(interrupted), 0)
    yield* TestClock.adjust("1 second")
    assert.strictEqual(yield* Ref.get(interrupted), 1)
  }).pipe(inMemory))

it.effect("a result that is made anew behind an old one is not abandoned, although nobody waits for it", () =>
  Effect.gen(function*() {
    const query = declare("Refreshing")
    const results = ["old", "new"]
    const here = yield* process(
      query.toLayer(() => Effect.delay(Effect.sync(() => results.shift() ?? ""), "5 seconds"), {
        abandonAfter: "1 second"
      })
    )
    const run = Effect.provideContext(query.run(payload, { maxAge: "1 minute", staleFor: "1 hour" }), here)
    const first = yield* Effect.forkChild(run, { startImmediately: true })
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual(yield* Fiber.join(first), "old")
    yield* TestClock.adjust("2 minutes")
    assert.strictEqual(yield* run, "old")
    yield* TestClock.adjust("2 seconds")
    // One that comes and goes meanwhile does not end it either.
    assert.strictEqual(yield* run, "old")
    yield* TestClock.adjust("3 seconds")
    assert.strictEqual(yield* run, "new")
    assert.deepStrictEqual(results, [])
  }).pipe(inMemory))

it.live("two layers of a query in one process run it once, and one that closes hands over to the other", () =>
  Effect.gen(function*() {
    const query = declare("Twice")
    const begun = yield* Deferred.make<void>()
    const scope = yield* Scope.make()
    const stopping = yield* Layer.buildWithScope(
      Layer.fresh(query.toLayer(() => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never))),
      scope
    )
    const other = yield* process(query.toLayer(() => Effect.succeed("other")))
    yield* Effect.forkChild(Effect.provideContext(query.run(payload), stopping))
    yield* Deferred.await(begun)
    const joining = yield* Effect.forkChild(Effect.provideContext(query.run(payload), other), {
      startImmediately: true
    })
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(yield* Fiber.join(joining), "other")
  }).pipe(inMemory))

it.live("a handler can run other queries, and one that waits for itself fails at once with QueryCycle", () =>
  Effect.gen(function*() {
    const Outer = declare("Outer")
    const Inner = declare("Inner")
    const outer = Outer.toLayer((payload) =>
      Effect.map(Inner.run(payload), (inner) => `outer of ${inner}`).pipe(Effect.orDie)
    )
    const inner = Inner.toLayer(() => Effect.succeed("inner"))
    const here = yield* process(Layer.provide(outer, inner))
    assert.strictEqual(yield* Effect.provideContext(Outer.run(payload), here), "outer of inner")

    const Self = Query.make("Self", {
      db: "warehouse",
      payload: { day: Schema.String },
      success: Schema.String,
      error: Schema.String
    })
    const found = yield* Deferred.make<string>()
    const self: Layer.Layer<Query.Handler<"Self">, never, RedisStore.RedisStore> = Layer.unwrap(
      Effect.gen(function*() {
        // The handler asks for itself through its own layer.
        const context = yield* Deferred.make<
          Effect.Success<ReturnType<typeof process<Query.Handler<"Self">, never, RedisStore.RedisStore>>>
        >()
        const layer = Self.toLayer((payload) =>
          Effect.flatMap(Deferred.await(context), (context) => Effect.provideContext(Self.run(payload), context)).pipe(
            Effect.catch((error) =>
              Effect.andThen(
                Deferred.succeed(found, typeof error === "string" ? error : error._tag),
                Effect.fail("in a cycle")
              )
            )
          )
        )
        return Layer.tap(layer, (built) => Deferred.succeed(context, built))
      })
    )
    const there = yield* process(self)
    assert.strictEqual(yield* Effect.flip(Effect.provideContext(Self.run(payload), there)), "in a cycle")
    assert.strictEqual(yield* Deferred.await(found), "QueryCycle")
  }).pipe(inMemory))

it.live("a caller interrupts nothing of a run of another query that a handler waits for", () =>
  Effect.gen(function*() {
    const Inner = declare("InnerOfOuter")
    const Outer = declare("OuterOfInner")
    const begun = yield* Deferred.make<void>()
    const latch = yield* Latch.make()
    const inner = Inner.toLayer(() =>
      Effect.as(Effect.andThen(Deferred.succeed(begun, undefined), latch.await), "inner")
    )
    const outer = Outer.toLayer((payload) => Effect.orDie(Inner.run(payload)))
    const here = yield* process(Layer.provide(outer, inner))
    const caller = yield* Effect.forkChild(Effect.provideContext(Outer.run(payload), here))
    yield* Deferred.await(begun)
    yield* Fiber.interrupt(caller)
    yield* latch.open
    assert.strictEqual(yield* Outer.await(payload), "inner")
  }).pipe(inMemory))

it.live("a run is one span with the name of the query and its label, and the work is within it", () =>
  Effect.gen(function*() {
    const query = declare("Spanned")
    const { layer, one } = make()
    const here = yield* process(query.toLayer(() => Effect.withSpan(Effect.succeed("result"), "work")))
    yield* query.run(payload).pipe(Effect.provideContext(here), Effect.provide(layer))
    const run = one("Spanned")
    assert.strictEqual(run.attributes.get("query_state.label"), "Spanned monday")
    assert.strictEqual(run.attributes.get("query_state.db"), "warehouse")
    assert.strictEqual(parentOf(one("work")), run.spanId)
    assert.strictEqual(run.status._tag, "Ended")
    const { traceparent } = yield* (yield* QueryStateMachine.make(yield* query.key(payload))).record
    assert.strictEqual(traceparent, `00-${run.traceId.padStart(32, "0")}-${run.spanId}-01`)
  }).pipe(inMemory))

it.live("the work has the span of its run as parent, also where its layer was built in another span", () =>
  Effect.gen(function*() {
    const query = declare("BuiltElsewhere")
    const { layer, one } = make()
    yield* Effect.gen(function*() {
      const here = yield* Effect.withSpan(
        process(query.toLayer(() => Effect.withSpan(Effect.succeed("result"), "work"))),
        "building"
      )
      yield* Effect.provideContext(query.run(payload), here)
    }).pipe(Effect.provide(layer))
    assert.strictEqual(parentOf(one("work")), one("BuiltElsewhere").spanId)
  }).pipe(inMemory))

it.live("what a run acquires is released before it ends, and not with the layer", () =>
  Effect.gen(function*() {
    const query = declare("Scoped")
    const released = yield* Ref.make(0)
    const here = yield* process(
      query.toLayer(() => Effect.as(Effect.addFinalizer(() => Ref.update(released, (count) => count + 1)), "result"))
    )
    yield* Effect.provideContext(query.run(payload), here)
    assert.strictEqual(yield* Ref.get(released), 1)
  }).pipe(inMemory))

it.live("a layer that is built within the run of another query finds its own cycles", () =>
  Effect.gen(function*() {
    const Outer = declare("OuterWithLayer")
    const Inner = declare("InnerWithLayer")
    // The inner query waits for the outer one, which waits for it.
    const found = yield* Deferred.make<string>()
    const outer = Outer.toLayer((payload) => {
      const inner = Inner.toLayer((payload) =>
        Effect.scoped(Effect.gen(function*() {
          const again = yield* Layer.build(Layer.fresh(Outer.toLayer(() => Effect.succeed("never"))))
          return yield* Effect.provideContext(Outer.run(payload), again)
        })).pipe(
          Effect.tapError(({ _tag }) => Deferred.succeed(found, _tag)),
          Effect.orElseSucceed(() => "inner")
        )
      )
      return Effect.orDie(Effect.provide(Inner.run(payload), Layer.fresh(inner)))
    })
    const here = yield* process(outer)
    assert.strictEqual(yield* Effect.provideContext(Outer.run(payload), here), "inner")
    assert.strictEqual(yield* Deferred.await(found), "QueryCycle")
  }).pipe(inMemory))
