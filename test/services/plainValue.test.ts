/** A machine is a plain value: its members can be spread, destructured and passed on. */
import { assert, it } from "@effect/vitest"
import { Effect, Option, Stream } from "effect"
import { QueryState, QueryStateMachine, RedisStoreMemory } from "effect-query-state"
import { freshKey } from "../support/queries.ts"

it.layer(RedisStoreMemory.layerWith({ history: { length: 10 } }))("a machine", (it) => {
  it.effect("that is spread keeps every member", () =>
    Effect.gen(function*() {
      const query = yield* QueryStateMachine.make(yield* freshKey)
      assert.deepStrictEqual({ ...query }, query)
      assert.sameMembers(Object.keys({ ...query }), [
        "key",
        "enqueue",
        "execute",
        "finish",
        "raiseError",
        "cancel",
        "reset",
        "finishResetting",
        "trigger",
        "currentState",
        "record",
        "isKnown",
        "isQueued",
        "isExecuting",
        "isCompleted",
        "isErrored",
        "isCancelled",
        "isResetting",
        "isResetFailed",
        "isFinishedExecuting",
        "changes",
        "history",
        "waitUntilComplete",
        "withExecution",
        "withReset",
        "run"
      ])
    }))

  it.effect("that is destructured works by each of its members", () =>
    Effect.gen(function*() {
      const { cancel, changes, currentState, enqueue, execute, finish, finishResetting, history, ...rest } = {
        ...(yield* QueryStateMachine.make(yield* freshKey))
      }
      const { isCancelled, isCompleted, isErrored, isExecuting, isFinishedExecuting, isKnown, isQueued, ...more } = rest
      const { isResetFailed, isResetting, key, raiseError, record, reset, run, trigger, ...others } = more
      const { waitUntilComplete, withExecution, withReset } = others

      assert.isTrue(yield* isKnown)
      assert.deepStrictEqual(yield* enqueue, { state: QueryState.make("Queued"), changed: true })
      assert.isTrue(yield* isQueued)
      assert.deepStrictEqual(yield* execute, { state: QueryState.make("Executing"), changed: true })
      assert.isTrue(yield* isExecuting)
      assert.deepStrictEqual(yield* finish, { state: QueryState.completed, changed: true })
      assert.isTrue(yield* isCompleted)
      assert.isTrue(yield* isFinishedExecuting)
      assert.deepStrictEqual(yield* currentState, QueryState.completed)
      assert.deepStrictEqual(yield* waitUntilComplete(), yield* record)
      assert.deepStrictEqual(Option.getOrUndefined(yield* Stream.runHead(changes)), yield* record)
      assert.deepStrictEqual(yield* reset, { state: QueryState.make("Resetting"), changed: true })
      assert.isTrue(yield* isResetting)
      assert.isTrue((yield* raiseError).changed)
      assert.isTrue(yield* isResetFailed)
      assert.strictEqual(yield* withReset(() => Effect.succeed("purged")), "purged")
      assert.isTrue((yield* trigger("Queue")).changed)
      assert.isTrue((yield* cancel).changed)
      assert.isTrue(yield* isCancelled)
      assert.isTrue((yield* reset).changed)
      assert.isTrue((yield* finishResetting).changed)
      assert.isTrue((yield* enqueue).changed)
      assert.strictEqual(yield* withExecution(() => Effect.succeed("done")), "done")
      assert.isFalse(yield* isErrored)
      const options = { execute: () => Effect.succeed("ran"), result: Effect.succeedSome("fetched") }
      assert.strictEqual(yield* run(options), "fetched")
      assert.strictEqual((yield* history).length, 10)
      assert.deepStrictEqual((yield* record).key, key)
    }))
})
