import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Scheduler } from "effect"
import * as CoalescedReads from "../../src/layers/internal/redis/coalescedReads.ts"

/** Yields once, after so many operations. */
class YieldsOnce extends Scheduler.MixedScheduler {
  private left: number

  constructor(after: number) {
    super()
    this.left = after
  }

  override shouldYield(): boolean {
    return this.left-- === 0
  }
}

it.live("a read that is interrupted at any point leaves the next read of that key its answer", () =>
  Effect.gen(function*() {
    for (let operations = 0; operations <= 40; operations++) {
      let reads = 0
      const read = CoalescedReads.make(
        () => Effect.andThen(Effect.yieldNow, Effect.sync(() => ++reads)),
        Duration.seconds(1)
      )
      const interrupted = yield* read("id", "key").pipe(
        Effect.provideService(Scheduler.Scheduler, new YieldsOnce(operations)),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Fiber.interrupt(interrupted)
      assert.isAtLeast(yield* Effect.timeout(read("id", "key"), "2 seconds"), 1, `after ${operations} operations`)
    }
  }))
