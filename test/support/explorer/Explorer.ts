/**
 * Plays a program in every order in which its steps can happen.
 *
 * A program is a handful of actors who share one query in one store in memory. Each operation of the store is a step,
 * and takes place when it is chosen; in between, everything runs until all that is left waits for a step or for time.
 * Scheduler, clock and chance are the explorer's own, so that a play depends on its order of steps and on nothing else.
 */
import { Context, Duration, Effect, type Exit, Layer } from "effect"
import { type QueryKey, type QueryRecord, RedisStore, RedisStoreMemory } from "effect-query-state"
import { Orders, type Step, type Touch } from "./Orders.ts"
import { type Call, SteppedStore } from "./SteppedStore.ts"
import * as StepWorld from "./StepWorld.ts"

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

/** What happened in one order of steps. */
export interface Play<A, E> {
  readonly steps: ReadonlyArray<string>
  /** Every record there was, oldest first, that from before the first step included. */
  readonly history: ReadonlyArray<QueryRecord.QueryRecord>
  readonly calls: ReadonlyArray<Call>
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

const beginMillis = 1_000

const play = <A, E>(program: Program<A, E>, orders: Orders): Play<A, E> | undefined => {
  const { clock, environment, settle } = StepWorld.make(beginMillis)
  const taken: Array<string> = []
  const waiting = new Map<string, Waiting>()
  const killed = new Set<number>()
  let touched: Touch = "nothing"

  const turn = (actor: number, name: string, touch: Touch, act = () => {}) =>
    Effect.callback<void>((resume) => {
      if (killed.has(actor)) return
      let nth = 1
      while (waiting.has(`${actor}: ${name} ${nth}`)) nth += 1
      const id = `${actor}: ${name} ${nth}`
      const take = () => {
        touched = touch
        act()
        resume(Effect.void)
      }
      waiting.set(id, { actor, id, take })
      return Effect.sync(() => waiting.delete(id))
    })

  const kill = (actor: number) => {
    killed.add(actor)
    for (const step of waiting.values()) if (step.actor === actor) waiting.delete(step.id)
  }

  const stepsOf = (actor: number) =>
    Steps.of({
      step: (name) => turn(actor, name, "nothing"),
      pass: (duration) => turn(actor, "pass", "everything", () => clock.moveBy(Duration.toMillis(duration))),
      kill: (other) => turn(actor, `kill ${other}`, "everything", () => kill(other))
    })

  const runSync = Effect.runSyncWith(environment)
  const store = Context.get(runSync(Effect.scoped(Layer.build(RedisStoreMemory.layer))), RedisStore.RedisStore)
  runSync(Effect.provideService(program.before, RedisStore.RedisStore, store))
  const stepped = new SteppedStore(store, program.key, turn, () => {
    touched = "writes"
  })
  runSync(stepped.look)

  const fibers = program.actors.map((effect, actor) =>
    Effect.runForkWith(
      environment.pipe(Context.add(RedisStore.RedisStore, stepped.of(actor)), Context.add(Steps, stepsOf(actor)))
    )(effect)
  )
  const exits = () => fibers.map((fiber, actor) => killed.has(actor) ? undefined : fiber.pollUnsafe())
  const isOver = () => exits().every((exit, actor) => exit !== undefined || killed.has(actor))

  for (settle(); !isOver(); settle()) {
    if (taken.length === endless) throw new Error(`no end after ${taken.join(", ")}`)
    if (waiting.size > 0) {
      const chosen = orders.choose([...waiting.values()])
      if (chosen === undefined) return undefined
      const step = waiting.get(chosen.id)
      if (step === undefined) throw new Error(`${chosen.id} is not possible again after ${taken.join(", ")}`)
      waiting.delete(step.id)
      taken.push(step.id)
      step.take()
      settle()
      orders.took(touched)
    } else {
      if (clock.nextMillis === undefined) throw new Error(`all wait for ever after ${taken.join(", ")}`)
      clock.moveTo(clock.nextMillis)
    }
  }
  return {
    steps: taken,
    history: stepped.history,
    calls: stepped.calls,
    exits: exits(),
    passedMillis: clock.currentTimeMillisUnsafe() - beginMillis,
    leftBehind: stepped.subscriptions + waiting.size + clock.sleeperCount
  }
}
