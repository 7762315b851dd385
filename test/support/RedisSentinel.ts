/**
 * A primary with replicas, and three sentinels, two of which can decide that a replica takes over.
 */
import { Effect, type Scope } from "effect"
import type { Redis } from "ioredis"
import * as RedisAdmin from "./RedisAdmin.ts"
import * as RedisServer from "./RedisServer.ts"
import * as Replicated from "./Replicated.ts"

export interface RedisSentinel extends Replicated.Replicated {
  readonly sentinels: ReadonlyArray<Replicated.Node>
  /** How the sentinels can be reached, as ioredis takes it. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** What the sentinels call the primary. */
  readonly name: string
}

export const name = "primary"

const sentinelCount = 3
const quorum = 2

/** Starts it all, to stop with the scope, and waits until each sentinel knows the replicas and the other sentinels. */
export const acquire = (options?: {
  readonly replicas?: number | undefined
  /** What clients have to present to a sentinel. */
  readonly sentinelPassword?: string | undefined
}): Effect.Effect<RedisSentinel, RedisServer.RedisServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const password = options?.sentinelPassword
    const count = options?.replicas ?? 1
    const replicated = yield* Replicated.acquire({ count })
    const sentinels = yield* Effect.replicateEffect(
      startSentinel(replicated.primary.server, password),
      sentinelCount,
      { concurrency: "unbounded" }
    )
    const isInformed = async (admin: Redis) => {
      const [, ...facts] = await admin.call("SENTINEL", "MASTER", name) as Array<string>
      const fact = (field: string) => facts[facts.indexOf(field) + 1]
      return fact("num-slaves") === `${count}` && fact("num-other-sentinels") === `${sentinelCount - 1}`
    }
    yield* Effect.forEach(sentinels, ({ admin }) => Replicated.until(() => isInformed(admin)))
    return {
      ...replicated,
      sentinels,
      addresses: sentinels.map(({ server: { host, port } }) => ({ host, port })),
      name
    }
  })

const startSentinel = Effect.fnUntraced(function*(
  primary: RedisServer.RedisServer,
  password: string | undefined
) {
  const server = yield* RedisServer.acquire({
    isSentinel: true,
    args: password === undefined ? [] : ["--requirepass", password]
  })
  const { host, port } = server
  const admin = yield* RedisAdmin.connect(`redis://${password === undefined ? "" : `:${password}@`}${host}:${port}`)
  const send = (...args: ReadonlyArray<string | number>) => Effect.promise(() => admin.call("SENTINEL", ...args))
  if (password !== undefined) yield* send("CONFIG", "SET", "sentinel-pass", password)
  yield* send("MONITOR", name, primary.host, primary.port, quorum)
  yield* send("SET", name, "down-after-milliseconds", 500, "failover-timeout", 5_000)
  return { server, admin }
})

/** Waits until the sentinels agree that a replica has become the primary, and answers which. */
export const promoted = ({ replicas, sentinels }: RedisSentinel): Effect.Effect<Replicated.Node> =>
  Effect.gen(function*() {
    let promoted: Replicated.Node | undefined
    yield* Replicated.until(async () => {
      const addresses = await Promise.all(
        sentinels.map(({ admin }) => admin.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name) as Promise<Array<string>>)
      )
      promoted = replicas.find(({ server: { port } }) => addresses.every(([, known]) => known === `${port}`))
      return promoted !== undefined && (await promoted.admin.info("replication")).includes("role:master")
    })
    return promoted ?? (yield* Effect.never)
  })
