/** How long after another process completed a query a wait ends, compared with a bare message between the two. */
import { Effect, Fiber } from "effect"
import { QueryStateMachine } from "effect-query-state"
import * as Child from "./child.ts"
import type { Order } from "./completer.ts"
import type { Row, Scale } from "./Row.ts"
import { connect, Server, StoreLayer } from "./Server.ts"
import { median, medianRatio, quantile } from "./statistics.ts"
import * as Waiters from "./waiters.ts"

const warmUp = 200

// Both begin on a machine that sleeps: to wake its cores takes as long as a message.
const idle = Effect.sleep("5 millis")

const millisSince = (begun: string) => (at: bigint): number => Number(at - BigInt(begun)) / 1e6

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const { url } = yield* Server
  const subscriber = yield* connect(url)
  yield* Effect.promise(() => subscriber.subscribe("bench"))
  const child = yield* Child.start("completer.ts", { args: [url] })
  yield* Child.message(child)

  const order = (order: Order) =>
    Effect.suspend(() => {
      child.send(order)
      return Child.message(child)
    })

  const hop = Effect.gen(function*() {
    const arrived = yield* Effect.forkChild(
      Effect.callback<bigint>((resume) => {
        subscriber.once("message", () => resume(Effect.succeed(process.hrtime.bigint())))
      }),
      { startImmediately: true }
    )
    yield* idle
    const begun = yield* order({ what: "publish", name: "bench" })
    return millisSince(begun)(yield* Fiber.join(arrived))
  })

  const wait = Effect.fnUntraced(function*(key: ReturnType<typeof Waiters.keys>[number]) {
    const query = yield* QueryStateMachine.make(key)
    yield* query.enqueue
    const woken = yield* Effect.forkChild(
      Effect.map(query.waitUntilComplete(), () => process.hrtime.bigint()),
      { startImmediately: true }
    )
    yield* idle
    const begun = yield* order({ what: "complete", name: key.query })
    return millisSince(begun)(yield* Fiber.join(woken))
  })

  const pairs: Array<readonly [wait: number, hop: number]> = []
  for (const key of Waiters.keys(warmUp + (isQuick ? 100 : 800))) pairs.push([yield* wait(key), yield* hop])

  const measured = pairs.slice(warmUp)
  const ratio = medianRatio(measured)
  const waits = measured.map(([wait]) => wait)
  const hops = measured.map(([, hop]) => hop)
  const show = (millis: number) => `${millis.toFixed(2)} ms`
  return [
    {
      what: "completion to wake-up, one waiter, against a bare publish to message",
      measured: `${ratio.toFixed(2)} x (${show(median(waits))} against ${show(median(hops))})`,
      toReach: "at most 2 x",
      met: ratio <= 2
    },
    {
      what: "completion to wake-up, median",
      measured: `${show(median(waits))} (99 %: ${show(quantile(waits, 0.99))})`,
      toReach: "below 2 ms",
      met: median(waits) < 2
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
