/**
 * Plays a program in every order in which its steps can happen.
 *
 * A program is a handful of actors who share one query in one store in memory. Each operation of the store is a step,
 * and takes place when it is chosen; in between, everything runs until all that is left waits for a step or for time.
 * Scheduler, clock and chance are the explorer's own, so that a play depends on its order of steps and on nothing else.
 */
import { Clock, Context, Duration, Effect, type Exit, Layer, Random, type Result, Scheduler } from "effect"
import {
  type QueryError,
  type QueryKey,
  type QueryRecord,
  QueryState,
  RedisStore,
  type RedisStoreError,
  RedisStoreMemory
} from "effect-query-state"
import { Orders, type Step, type Touch } from "./Orders.ts"
import { StepClock } from "./StepClock.ts"

/** Steps that are no operation of the store. */
export class Steps extends Context.Service<Steps, {
  /** Does nothing, when it is chosen. */
  readonly step: (name: string) => Effect.Effect<void>
  /** Lets time pass. What is to happen meanwhile happens at its time, but no operation takes place. */
  readonly pass: (duration: Duration.Input) => Effect.Effect<void>
  /** Ends an actor as the loss of its machine would: none of its steps ever takes place again. */
  readonly kill: (actor: number) => Effect.Effect<void>
}>()("test/Explorer/Steps") {}

export const step = (name: string): Effect.Effect<void, never, Steps> => Steps.use(({ step }) => step(name))
export const pass = (duration: Duration.Input): Effect.Effect<void, never, Steps> =>
  Steps.use(({ pass }) => pass(duration))
export const kill = (actor: number): Effect.Effect<void, never, Steps> => Steps.use(({ kill }) => kill(actor))

export interface Program<A, E> {
  readonly key: QueryKey.QueryKey
  /** What has happened before. */
  readonly before: Effect.Effect<unknown, unknown, RedisStore.RedisStore>
  readonly actors: ReadonlyArray<Effect.Effect<A, E, RedisStore.RedisStore | Steps>>
}

type Failure = QueryError.LeaseLost | RedisStoreError.RedisStoreError

/** A command and what its sender was told; `before` is the record that it found. */
export interface Told {
  readonly actor: number
  readonly command: RedisStore.Command | "renew"
  readonly fence: number | undefined
  readonly before: QueryRecord.QueryRecord
  readonly result: Result.Result<RedisStore.Answer, Failure>
}

/** What happened in one order of steps. */
export interface Play<A, E> {
  readonly steps: ReadonlyArray<string>
  /** Every record there was, oldest first, that from before the first step included. */
  readonly history: ReadonlyArray<QueryRecord.QueryRecord>
  readonly told: ReadonlyArray<Told>
  /** How each actor ended; `undefined` for those that were killed. */
  readonly exits: ReadonlyArray<Exit.Exit<A, E> | undefined>
  readonly passedMillis: number
  /** How many still sleep, are subscribed or wait for a step when all actors have ended. */
  readonly leftBehind: number
}

/** How many orders there are of so many steps of each of so many actors. */
export const interleavings = (...steps: ReadonlyArray<number>): number => {
  const orders = (n: number): number => n < 2 ? 1 : n * orders(n - 1)
  return steps.reduce((count, n) => count / orders(n), orders(steps.reduce((sum, n) => sum + n, 0)))
}

/** Plays a program in every order, looks at each play, and answers how many there were. */
export const explore = <A, E>(program: Program<A, E>, look: (play: Play<A, E>) => void): number =>
  exploreAll(new Orders({ isThrifty: false }), program, look)

/** Like `explore`, but where orders must come to the same, one of them is played. */
export const exploreThriftily = <A, E>(program: Program<A, E>, look: (play: Play<A, E>) => void): number =>
  exploreAll(new Orders({ isThrifty: true }), program, look)

const exploreAll = <A, E>(orders: Orders, program: Program<A, E>, look: (play: Play<A, E>) => void): number => {
  let plays = 0
  do {
    const played = play(program, orders)
    if (played === undefined) continue
    plays += 1
    try {
      look(played)
    } catch (cause) {
      throw new Error(`in play ${plays} (${played.steps.join(", ")}): ${String(cause)}`, { cause })
    }
  } while (orders.next())
  return plays
}

interface Waiting extends Step {
  readonly take: () => void
}

/** More steps than any program takes that comes to an end. */
const endless = 500

const startMillis = 1_000

const play = <A, E>(program: Program<A, E>, orders: Orders): Play<A, E> | undefined => {
  const turns: Array<() => void> = []
  const settle = () => {
    for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) turn()
  }
  const clock = new StepClock(startMillis, settle)
  const environment = Context.make(Clock.Clock, clock).pipe(
    Context.add(
      Scheduler.Scheduler,
      new Scheduler.MixedScheduler("sync", (turn) => {
        turns.push(turn)
        return () => turns.splice(turns.indexOf(turn), 1)
      })
    ),
    // Half way between the bounds, so that jitter changes no delay.
    Context.add(Random.Random, { nextDoubleUnsafe: () => 0.5, nextIntUnsafe: () => 0 })
  )
  const runSync = Effect.runSyncWith(environment)
  const store = Context.get(runSync(Effect.scoped(Layer.build(RedisStoreMemory.layer))), RedisStore.RedisStore)
  runSync(Effect.provideService(program.before, RedisStore.RedisStore, store))

  const steps: Array<string> = []
  const waiting = new Map<string, Waiting>()
  const killed = new Set<number>()
  const history = [runSync(store.read(program.key))]
  const told: Array<Told> = []
  let latest = history[0]
  let touch: Touch = "nothing"
  let subscriptions = 0

  const step = (actor: number, name: string, mostTouch: Touch, act = () => {}) =>
    Effect.callback<void>((resume) => {
      if (killed.has(actor)) return
      let count = 1
      while (waiting.has(`${actor}: ${name} ${count}`)) count += 1
      const id = `${actor}: ${name} ${count}`
      waiting.set(id, {
        actor,
        id,
        take: () => {
          touch = mostTouch
          act()
          resume(Effect.void)
        }
      })
      return Effect.sync(() => waiting.delete(id))
    })

  // Looking settles the record, as the operation would have done.
  const observe = Effect.map(store.read(program.key), (record) => {
    if (record.version !== latest?.version) history.push(record)
    if (record.version !== latest?.version || expiryOf(record) !== expiryOf(latest)) touch = "writes"
    latest = record
    return record
  })

  const operation = <B, E>(actor: number, name: string, effect: Effect.Effect<B, E>) =>
    step(actor, name, "reads").pipe(
      Effect.andThen(observe),
      Effect.flatMap((before) => Effect.map(Effect.result(effect), (result) => ({ before, result }))),
      Effect.tap(() => observe)
    )

  const command = <E extends Failure>(
    actor: number,
    command: Told["command"],
    fence: number | undefined,
    effect: Effect.Effect<RedisStore.Answer, E>
  ) =>
    operation(actor, command === "renew" ? command : command.event, effect).pipe(
      Effect.tap(({ before, result }) => Effect.sync(() => told.push({ actor, command, fence, before, result }))),
      Effect.flatMap(({ result }) => Effect.fromResult(result))
    )

  const stepped = (actor: number) =>
    RedisStore.RedisStore.of({
      ...store,
      compareAndSet: ((key: QueryKey.QueryKey, given: RedisStore.Command) =>
        command(actor, given, given.fence, store.compareAndSet(key, given))) as typeof store.compareAndSet,
      renew: (key, fence, lease) =>
        command(
          actor,
          "renew",
          fence,
          Effect.map(store.renew(key, fence, lease), (record) => ({ record, changed: false }))
        ).pipe(Effect.map(({ record }) =>
          record
        )),
      read: (key) =>
        Effect.flatMap(operation(actor, "read", store.read(key)), ({ result }) => Effect.fromResult(result)),
      changes: (key) =>
        step(actor, "changes", "reads").pipe(
          Effect.andThen(Effect.acquireRelease(
            Effect.sync(() => subscriptions += 1),
            () => Effect.sync(() => subscriptions -= 1)
          )),
          Effect.andThen(store.changes(key))
        )
    })

  const stepsOf = (actor: number) =>
    Steps.of({
      step: (name) => step(actor, name, "nothing"),
      pass: (duration) =>
        step(
          actor,
          "pass",
          "everything",
          () => clock.moveTo(clock.currentTimeMillisUnsafe() + Duration.toMillis(duration))
        ),
      kill: (other) =>
        step(actor, `kill ${other}`, "everything", () => {
          killed.add(other)
          for (const { actor, id } of waiting.values()) if (actor === other) waiting.delete(id)
        })
    })

  const fibers = program.actors.map((effect, actor) =>
    Effect.runForkWith(
      environment.pipe(Context.add(RedisStore.RedisStore, stepped(actor)), Context.add(Steps, stepsOf(actor)))
    )(effect)
  )
  const exits = () => fibers.map((fiber, actor) => killed.has(actor) ? undefined : fiber.pollUnsafe())
  const isOver = () => exits().every((exit, actor) => exit !== undefined || killed.has(actor))

  for (settle(); !isOver(); settle()) {
    if (steps.length === endless) throw new Error(`no end after ${steps.join(", ")}`)
    if (waiting.size > 0) {
      const chosen = orders.choose([...waiting.values()])
      if (chosen === undefined) return undefined
      const step = waiting.get(chosen.id)
      if (step === undefined) throw new Error(`${chosen.id} is not possible again after ${steps.join(", ")}`)
      waiting.delete(step.id)
      steps.push(step.id)
      step.take()
      settle()
      orders.took(touch)
    } else {
      if (clock.nextMillis === undefined) throw new Error(`all wait for ever after ${steps.join(", ")}`)
      clock.moveTo(clock.nextMillis)
    }
  }
  return {
    steps,
    history,
    told,
    exits: exits(),
    passedMillis: clock.currentTimeMillisUnsafe() - startMillis,
    leftBehind: subscriptions + waiting.size + (clock.nextMillis === undefined ? 0 : 1)
  }
}

const expiryOf = (record: QueryRecord.QueryRecord | undefined) => record && QueryState.claimOf(record.state)?.expiresAt
