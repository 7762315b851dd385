import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Scheduler } from "effect"
import * as CoalescedReads from "../../src/layers/internal/redis/coalescedReads.ts"

it.live("a read that is interrupted at any point leaves the next read of that key its answer", () =>
  Effect.gen(function*() {
    for (let operations = 1; operations <= 60; operations++) {
      let reads = 0
      const read = CoalescedReads.make(
        () => Effect.andThen(Effect.yieldNow, Effect.sync(() => ++reads)),
        Duration.seconds(1)
      )
      // A fiber that yields after so many operations is interrupted there.
      const interrupted = yield* read("id", "key").pipe(
        Effect.provideService(Scheduler.MaxOpsBeforeYield, operations),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Fiber.interrupt(interrupted)
      assert.isAtLeast(yield* read("id", "key"), 1, `interrupted after ${operations} operations`)
    }
  }))
