/** How long after another process completed a query a wait ends, compared with a bare message between the two. */
import { Effect, Fiber } from "effect"
import { QueryStateMachine } from "effect-query-state"
import * as Child from "./child.ts"
import type { Order } from "./completer.ts"
import type { Row, Scale } from "./Row.ts"
import { connect, Server, StoreLayer } from "./Server.ts"
import { median, medianRatio, quantile } from "./statistics.ts"
import * as Waiters from "./waiters.ts"

// As long as V8 needs to compile what runs once a round as well as it can, in both processes; without a pause in between.
const warmUp = 5_000

// All begin on a machine that sleeps: to wake its cores takes as long as a message.
const pause = Effect.sleep("5 millis")

const millisSince = (begun: string) => (at: bigint): number => Number(at - BigInt(begun)) / 1e6

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
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

  // What a wait is at least, if it believes the record and not the message.
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

  const samples: Array<{ readonly ours: number; readonly hand: number; readonly bare: number }> = []
  for (const [round, key] of Waiters.keys(warmUp + (isQuick ? 100 : 800)).entries()) {
    if (round === warmUp) idle = pause
    samples.push({ ours: yield* wait(key), hand: yield* byHand(key), bare: yield* hop })
  }

  const measured = samples.slice(warmUp)
  const waits = measured.map(({ ours }) => ours)
  const hands = measured.map(({ hand }) => hand)
  const hops = measured.map(({ bare }) => bare)
  const ratio = medianRatio(measured.map(({ bare, ours }) => [ours, bare]))
  const ratioByHand = medianRatio(measured.map(({ hand, ours }) => [ours, hand]))
  const show = (millis: number) => `${millis.toFixed(2)} ms`
  return [
    {
      what: "completion to wake-up, one waiter, against a bare publish to message",
      measured: `${ratio.toFixed(2)} x (${show(median(waits))} against ${show(median(hops))})`,
      toReach: "at most 2 x",
      met: ratio <= 2
    },
    {
      what: "the same, against the least script, a message and a read by hand",
      measured: `${ratioByHand.toFixed(2)} x (${show(median(waits))} against ${show(median(hands))})`,
      toReach: ""
    },
    {
      what: "completion to wake-up, median",
      measured: `${show(median(waits))} (99 %: ${show(quantile(waits, 0.99))})`,
      toReach: "below 2 ms",
      met: median(waits) < 2
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
