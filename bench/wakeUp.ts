/** How soon a wait ends after another process completed its query, compared with a bare message between the two. */
import { Duration, Effect, Fiber, Random } from "effect"
import { QueryStateMachine } from "effect-query-state"
import * as ReferenceMachine from "../test/support/ReferenceMachine.ts"
import * as Child from "./child.ts"
import type { Order } from "./completer.ts"
import type { Row, Scale } from "./Row.ts"
import { connect, Server, StoreLayer } from "./Server.ts"
import { median, millis, type Pair, quantile, ratioOf, show, spread } from "./statistics.ts"
import * as Waiters from "./waiters.ts"

// Rounds until V8 has compiled what runs once a round as well as it can, in both processes. There is no pause between them.
const fullWarmUp = 5_000

// Each measurement begins on an idle machine: waking its cores takes as long as a message.
const pause = Effect.sleep("5 millis")

const millisSince = (begun: string) => (at: bigint): number => Number(at - BigInt(begun)) / 1e6

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const warmUp = isQuick ? 300 : fullWarmUp
  const { raw, url } = yield* Server
  const subscriber = yield* connect(url)
  yield* Effect.promise(() => subscriber.subscribe("bench"))
  const child = yield* Child.start("completer.ts", { args: [url] })
  yield* Child.message(child)

  const order = (order: Order) =>
    Effect.suspend(() => {
      child.send(order)
      return Child.message(child)
    })

  let idle: Effect.Effect<unknown> = Effect.void
  const messageOn = (channel: string) =>
    Effect.callback<bigint>((resume) => {
      const onMessage = (on: string) => {
        if (on !== channel) return
        subscriber.off("message", onMessage)
        resume(Effect.succeed(process.hrtime.bigint()))
      }
      subscriber.on("message", onMessage)
    })

  const hop = Effect.gen(function*() {
    const arrived = yield* Effect.forkChild(messageOn("bench"), { startImmediately: true })
    yield* Effect.suspend(() => idle)
    const begun = yield* order({ what: "publish", name: "bench" })
    return millisSince(begun)(yield* Fiber.join(arrived))
  })

  // The least that a wait needs which reads the record instead of believing the message.
  const byHand = Effect.fnUntraced(function*({ query }: ReturnType<typeof Waiters.keys>[number]) {
    const name = `by hand: ${query}`
    yield* Effect.promise(() => raw.set(name, "queued"))
    yield* Effect.promise(() => subscriber.subscribe(name))
    const read = yield* messageOn(name).pipe(
      Effect.andThen(Effect.promise(() => raw.get(name))),
      Effect.map(() => process.hrtime.bigint()),
      Effect.forkChild({ startImmediately: true })
    )
    yield* Effect.suspend(() => idle)
    const begun = yield* order({ what: "script", name })
    const millis = millisSince(begun)(yield* Fiber.join(read))
    yield* Effect.promise(() => subscriber.unsubscribe(name))
    return millis
  })

  const wait = Effect.fnUntraced(function*(key: ReturnType<typeof Waiters.keys>[number]) {
    const query = yield* QueryStateMachine.make(key)
    yield* query.enqueue
    const woken = yield* Effect.forkChild(
      Effect.map(query.waitUntilComplete(), () => process.hrtime.bigint()),
      { startImmediately: true }
    )
    yield* Effect.suspend(() => idle)
    const begun = yield* order({ what: "complete", name: key.query })
    return millisSince(begun)(yield* Fiber.join(woken))
  })

  const bull = yield* Child.start("bullWaiter.ts", { args: [url] })
  yield* Child.message(bull)
  const job = Effect.gen(function*() {
    const active = yield* Effect.forkChild(Child.message(bull), { startImmediately: true })
    bull.send("wait")
    yield* Fiber.join(active)
    const finished = yield* Effect.forkChild(Child.message(bull), { startImmediately: true })
    yield* Effect.suspend(() => idle)
    const begun = yield* order({ what: "job", name: "" })
    return millisSince(begun)(BigInt(yield* Fiber.join(finished)))
  })

  // FlowMachine looks every second; its query is completed at a random moment of that second.
  const poll = Effect.fnUntraced(function*(key: ReturnType<typeof Waiters.keys>[number]) {
    const machine = yield* ReferenceMachine.make(raw, key)
    yield* machine.trigger("QUEUE")
    const woken = yield* Effect.forkChild(
      Effect.map(machine.waitUntilComplete(1_000), () => performance.now()),
      { startImmediately: true }
    )
    yield* Effect.sleep(Duration.millis(yield* Random.nextBetween(20, 1_020)))
    const begun = performance.now()
    yield* machine.trigger("CANCEL")
    return (yield* Fiber.join(woken)) - begun
  })

  const all = { bare: hop, byHand, job, wait }
  const samples: Array<Record<keyof typeof all, number>> = []
  const keys = Waiters.keys(warmUp + (isQuick ? 100 : 800))
  for (const [round, key] of keys.entries()) {
    if (round === warmUp) idle = pause
    // A round of BullMQ takes longer, and more warm-up does not make it faster.
    const isWithJob = round >= warmUp - 200
    samples.push({
      wait: yield* wait(key),
      byHand: yield* byHand(key),
      bare: yield* hop,
      job: isWithJob ? yield* job : Number.NaN
    })
  }
  const polls = yield* Effect.forEach(Waiters.keys(isQuick ? 5 : 40), poll, { concurrency: 5 })

  const measured = samples.slice(warmUp)
  const timesOf = (what: keyof typeof all) => measured.map((sample) => sample[what])
  const middle = (what: keyof typeof all) => median(timesOf(what))
  const last = (what: keyof typeof all) => quantile(timesOf(what), 0.99)
  const against = (name: string, other: Exclude<keyof typeof all, "wait">, what: string, atMost?: number): Row => {
    const comparison = ratioOf(measured.map((sample): Pair => [sample.wait, sample[other]]))
    return {
      name,
      figures: { ...comparison, p50: middle(other), p99: last(other) },
      what,
      measured: `${show(comparison.ratio)} (${spread(comparison)}; ${millis(middle(other))}, 99 %: ${
        millis(last(other))
      })`,
      toReach: atMost === undefined ? "" : `${atMost} x or less`,
      isReached: atMost === undefined ? undefined : comparison.ratio <= atMost
    }
  }
  const pollMillis = median(polls)
  const ours = middle("wait")
  return [
    {
      name: "wakeUp",
      figures: { p50: ours, p99: last("wait") },
      what: "wake-up in another process, from idle",
      measured: `${millis(ours)} (99 %: ${millis(last("wait"))})`,
      toReach: "2 ms or less",
      isReached: ours <= 2
    },
    against("wakeUpBull", "job", "the same, against BullMQ's `waitUntilFinished`", 0.75),
    against("wakeUpBare", "bare", "the same, against a bare message from process to process", 2),
    against("wakeUpByHand", "byHand", "the same, against the least script, a message and a read by hand"),
    {
      name: "wakeUpPoll",
      figures: { ratio: pollMillis / ours, p50: pollMillis, p99: quantile(polls, 0.99) },
      what: "the same, against FlowMachine, which looks every second",
      measured: `1/${(pollMillis / ours).toFixed(0)} (${millis(pollMillis)})`,
      toReach: "1/300 or less",
      isReached: pollMillis >= 300 * ours
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
