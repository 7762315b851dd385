/**
 * A store whose operations on one query happen one at a time, each at its turn, and that records all of them.
 */
import { Effect, type Result } from "effect"
import {
  type QueryError,
  type QueryKey,
  type QueryRecord,
  QueryState,
  RedisStore,
  type RedisStoreError,
  Transition
} from "effect-query-state"
import type { Touch } from "./Orders.ts"

type Store = RedisStore.RedisStore["Service"]
type Failure = QueryError.LeaseLost | RedisStoreError.RedisStoreError

/** A command and its result. `before` is the record that it found. */
export interface Call {
  readonly actor: number
  readonly command: RedisStore.Command | "renew"
  readonly fence: number | undefined
  readonly before: QueryRecord.QueryRecord
  readonly result: Result.Result<RedisStore.CommandResult, Failure>
}

/** Waits for its turn. */
export type Turn = (actor: number, name: string, touch: Touch) => Effect.Effect<void>

export class SteppedStore {
  /** Every record there was, oldest first. */
  readonly history: Array<QueryRecord.QueryRecord> = []
  readonly calls: Array<Call> = []
  subscriptions = 0

  private readonly store: Store
  private readonly turn: Turn
  private readonly onWrite: () => void
  /** Looks at the record, which settles it, as an operation would do. */
  readonly look: Effect.Effect<QueryRecord.QueryRecord, RedisStoreError.RedisStoreError>
  private expiresAt: unknown

  constructor(store: Store, key: QueryKey.QueryKey, turn: Turn, onWrite: () => void) {
    this.store = store
    this.turn = turn
    this.onWrite = onWrite
    this.look = Effect.map(store.read(key), (record) => this.remember(record))
  }

  /** The store as one of the actors has it. */
  of(actor: number): Store {
    const { changes, compareAndSet, read, renew } = this.store
    return RedisStore.RedisStore.of({
      ...this.store,
      compareAndSet: ((key: QueryKey.QueryKey, command: RedisStore.Command) =>
        this.command(
          actor,
          Transition.eventsOf(command.event).join(" "),
          { command, fence: command.fence },
          compareAndSet(key, command)
        )) as Store[
          "compareAndSet"
        ],
      renew: (key, fence, lease, report) =>
        this.command(
          actor,
          "renew",
          { command: "renew", fence },
          Effect.map(renew(key, fence, lease, report), (record) => ({ record, changed: false }))
        ).pipe(Effect.map(({ record }) => record)),
      read: (key) =>
        this.operation(actor, "read", read(key)).pipe(Effect.flatMap(({ result }) => Effect.fromResult(result))),
      changes: (key, listener) =>
        this.turn(actor, "changes", "reads").pipe(
          Effect.andThen(Effect.acquireRelease(this.subscribed(1), () => this.subscribed(-1))),
          Effect.andThen(changes(key, listener))
        )
    })
  }

  private operation<A, E>(actor: number, name: string, effect: Effect.Effect<A, E>) {
    return this.turn(actor, name, "reads").pipe(
      Effect.andThen(this.look),
      Effect.flatMap((before) => Effect.map(Effect.result(effect), (result) => ({ before, result }))),
      Effect.tap(() => this.look)
    )
  }

  private command<E extends Failure>(
    actor: number,
    name: string,
    sent: Pick<Call, "command" | "fence">,
    effect: Effect.Effect<RedisStore.CommandResult, E>
  ) {
    return this.operation(actor, name, effect).pipe(
      Effect.tap(({ before, result }) => Effect.sync(() => this.calls.push({ actor, ...sent, before, result }))),
      Effect.flatMap(({ result }) => Effect.fromResult(result))
    )
  }

  private remember(record: QueryRecord.QueryRecord): QueryRecord.QueryRecord {
    const expiresAt = QueryState.claimOf(record.state)?.expiresAt
    const isSame = record.version === this.history.at(-1)?.version
    if (!isSame) this.history.push(record)
    if (!isSame || expiresAt !== this.expiresAt) this.onWrite()
    this.expiresAt = expiresAt
    return record
  }

  private subscribed(by: number): Effect.Effect<void> {
    return Effect.sync(() => {
      this.subscriptions += by
    })
  }
}
