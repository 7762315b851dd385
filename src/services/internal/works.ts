/** Work that belongs to a layer, and not to the callers who want its result. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

interface Work {
  callers: number
  /** How often it has been left without callers. */
  departures: number
  fibers: Set<Fiber.Fiber<unknown, unknown>>
}

/** Runs work in a scope, and interrupts it some time after its last caller has gone, where that is wanted. */
export class Works {
  private readonly byId = new Map<string, Work>()
  private readonly scope: Scope.Scope
  private readonly abandonAfter: Duration.Input | undefined

  constructor(scope: Scope.Scope, abandonAfter: Duration.Input | undefined) {
    this.scope = scope
    this.abandonAfter = abandonAfter
  }

  /** Runs an effect in the scope. Whoever waits for it can be interrupted without it. */
  run<A, E, R>(id: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    // What was begun must be known here, even if its caller is interrupted at once.
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.forkIn(Effect.interruptible(effect), this.scope), (fiber) => {
        const work = this.byId.get(id)
        work?.fibers.add(fiber)
        fiber.addObserver(() => work?.fibers.delete(fiber))
        return restore(Fiber.join(fiber))
      })
    )
  }

  /** Counts an effect as a caller of the work with an id. */
  calling<A, E, R>(id: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        const work = this.byId.get(id) ?? { callers: 0, departures: 0, fibers: new Set() }
        work.callers++
        this.byId.set(id, work)
        return work
      }),
      () => effect,
      (work) => {
        work.callers--
        if (work.callers > 0) return Effect.void
        if (work.fibers.size === 0 || this.abandonAfter === undefined) {
          this.byId.delete(id)
          return Effect.void
        }
        work.departures++
        return this.abandon(id, work, work.departures).pipe(
          Effect.delay(this.abandonAfter),
          Effect.forkIn(this.scope)
        )
      }
    )
  }

  private abandon(id: string, work: Work, departure: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      // A caller may have come back, and may have gone again, which has a time of its own.
      if (work.callers > 0 || work.departures !== departure || this.byId.get(id) !== work) return Effect.void
      this.byId.delete(id)
      return Fiber.interruptAll(work.fibers)
    })
  }
}
