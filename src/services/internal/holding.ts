/** The claims under which a fiber works: work that runs other queries waits for them, and they may wait for it. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord, WaitsFor } from "../../domain/QueryRecord.ts"
import type { RedisStore } from "../RedisStore.ts"
import { isPassing, retries } from "./settle.ts"

type Store = RedisStore["Service"]

// More queries than work waits for at once; a cycle through the others is not found.
const maxWaits = 32

/** A claim that is held, and what its work waits for. */
export class Holding {
  readonly key: QueryKey
  readonly fence: number
  /** The claim whose work this is part of. */
  readonly parent: Holding | undefined
  private readonly store: Store
  private readonly lease: Duration.Duration
  private readonly scope: Scope.Scope
  private readonly waits = new Set<WaitsFor>()
  /** What the parent says of this claim, once the work of this one waits. */
  private noteOfParent: WaitsFor | undefined

  constructor(
    store: Store,
    { key, version }: QueryRecord,
    lease: Duration.Duration,
    scope: Scope.Scope,
    parent: Holding | undefined
  ) {
    this.store = store
    this.key = key
    this.fence = version
    this.lease = lease
    this.scope = scope
    this.parent = parent
  }

  /** This claim and those around it, the innermost first, as far as they are in the same store. */
  get stack(): ReadonlyArray<Holding> {
    const { parent } = this
    return parent === undefined || parent.store !== this.store ? [this] : [this, ...parent.stack]
  }

  isIn(store: Store): boolean {
    return this.store === store
  }

  /** Notes in the records of this claim and those around it that their work waits, for as long as `wait` takes. */
  waitingFor<A, E, R>(record: QueryRecord, wait: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      const waitsFor: WaitsFor = { key: record.key, version: record.version }
      this.waits.add(waitsFor)
      return Effect.andThen(this.record, wait).pipe(
        // Once the other query has moved on, the note says nothing any more.
        Effect.ensuring(Effect.sync(() => this.waits.delete(waitsFor))),
        Effect.onError(() => Effect.forkIn(this.write, this.scope))
      )
    })
  }

  /** Lets the parent forget this claim, whose work has ended. */
  end(): void {
    if (this.noteOfParent !== undefined) this.parent?.waits.delete(this.noteOfParent)
  }

  private get record(): Effect.Effect<void> {
    const { parent } = this
    if (parent === undefined || parent.store !== this.store || this.noteOfParent !== undefined) return this.write
    this.noteOfParent = { key: this.key, version: this.fence }
    parent.waits.add(this.noteOfParent)
    return Effect.andThen(parent.record, this.write)
  }

  private get write(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.store.renew(this.key, this.fence, this.lease, { waitsFor: Array.from(this.waits).slice(0, maxWaits) })
    ).pipe(
      // A cycle whose notes were lost in an outage would wait for ever. The heartbeat ends the work if it lasts too long.
      Effect.retry({ schedule: retries, while: isPassing }),
      // The heartbeat finds out by itself what the error means for the claim.
      Effect.tapError((error) => Effect.logDebug("It was not recorded what a query waits for", error)),
      Effect.ignore
    )
  }
}

const Current = Context.Reference<Holding | undefined>("effect-query-state/services/internal/holding", {
  defaultValue: () => undefined
})

/** Services without the claim under which they were gathered, and without its span: work has those of its caller. */
export const withoutCaller = Context.omit(Current, Tracer.ParentSpan)

/** The innermost claim under which this fiber works, if there is one. */
export const current: Effect.Effect<Holding | undefined> = Current

/** Does work under a claim. */
export const holding = <A, E, R>(
  store: Store,
  record: QueryRecord,
  lease: Duration.Duration,
  scope: Scope.Scope,
  work: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Current, (parent) => {
    const holding = new Holding(store, record, lease, scope, parent)
    return Effect.ensuring(Effect.provideService(work, Current, holding), Effect.sync(() => holding.end()))
  })
