/** Short faults of a server, and of its connections to clients. */
import { Effect, Random } from "effect"
import type { Redis } from "ioredis"
import type * as Proxy from "../Proxy.ts"
import type * as RedisServer from "../RedisServer.ts"

/** What can be broken. The clients that a test needs for itself are spared. */
export interface Breakable {
  readonly server: RedisServer.RedisServer
  readonly proxy: Proxy.Proxy
  readonly admin: Redis
  readonly spared: ReadonlyArray<number>
}

/** Breaks something, and puts right what does not right itself. */
export type Fault = (broken: Breakable) => Effect.Effect<unknown>

export const choose = <A>(choices: ReadonlyArray<A>): Effect.Effect<A> =>
  Effect.map(Random.nextIntBetween(0, choices.length - 1), (index) => {
    const chosen = choices[index]
    if (chosen === undefined) throw new Error("nothing to choose from")
    return chosen
  })

export const aWhile = (fromMillis: number, toMillis: number): Effect.Effect<void> =>
  Effect.flatMap(Random.nextIntBetween(fromMillis, toMillis), (millis) => Effect.sleep(millis))

/** A fault that lasts for a while and always ends. */
const lasting = (
  begin: Fault,
  end: Fault,
  [from, to]: readonly [fromMillis: number, toMillis: number]
): Fault =>
(broken) => Effect.acquireUseRelease(begin(broken), () => aWhile(from, to), () => end(broken))

const pass: Fault = ({ proxy }) => proxy.pass

const killClient: Fault = Effect.fnUntraced(function*({ admin, spared }) {
  const list = yield* Effect.promise(() => admin.client("LIST") as Promise<string>)
  const ids = Array.from(list.matchAll(/^id=(\d+)/gm), ([, id]) => Number(id)).filter((id) => !spared.includes(id))
  if (ids.length === 0) return
  const id = yield* choose(ids)
  yield* Effect.promise(() => admin.client("KILL", "ID", id).catch(() => 0))
})

export const faults: Readonly<Record<string, Fault>> = {
  "client killed": killClient,
  "commands cut": ({ proxy }) => proxy.cut("commands"),
  "notifications cut": ({ proxy }) => proxy.cut("notifications"),
  "reply lost": ({ proxy }) => proxy.cutBeforeReply,
  "half open": ({ proxy }) => proxy.halfOpen("all"),
  "black hole": lasting(({ proxy }) => proxy.blackHole, pass, [20, 300]),
  "delayed": lasting(({ proxy }) => Effect.flatMap(Random.nextIntBetween(1, 40), proxy.delay), pass, [20, 200]),
  "throttled": lasting(({ proxy }) => proxy.throttle(20_000), pass, [20, 200]),
  "connections refused": lasting(({ proxy }) => Effect.andThen(proxy.refuse, proxy.cut("all")), pass, [10, 200]),
  "scripts flushed": ({ admin }) => Effect.promise(() => admin.script("FLUSH")),
  "writes paused": ({ admin }) => Effect.promise(() => admin.call("CLIENT", "PAUSE", 20, "WRITE")),
  "server frozen": lasting(
    ({ server }) => Effect.sync(() => process.kill(server.pid, "SIGSTOP")),
    ({ server }) => Effect.sync(() => process.kill(server.pid, "SIGCONT")),
    [10, 150]
  ),
  // Nothing is there to replicate from, so the data stays.
  "server demoted": lasting(
    ({ admin }) => Effect.promise(() => admin.replicaof("127.0.0.1", 1)),
    ({ admin }) => Effect.promise(() => admin.replicaof("NO", "ONE")),
    [10, 100]
  )
}

/** Breaks something now and then, and counts what. */
export const breakThings = Effect.fnUntraced(
  function*(broken: Breakable, count: Record<string, number>): Effect.fn.Return<never> {
    while (true) {
      yield* aWhile(1, 60)
      const [kind, fault] = yield* choose(Object.entries(faults))
      count[kind] = (count[kind] ?? 0) + 1
      yield* fault(broken)
    }
  }
)
