/** The permissions that the pages name: with them everything works, and each of them is needed. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted, Schedule, type Scope, Stream } from "effect"
import {
  QueryFleet,
  QueryKey,
  QueryStateMachine,
  RedisStore,
  RedisStoreFlowMachine,
  RedisStoreLive
} from "effect-query-state"
import type { Redis } from "ioredis"
import { readFileSync } from "node:fs"
import { blocks, section } from "../support/markdown.ts"
import { driveTo, freshKey, redisKeyOf } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisCluster from "../support/RedisCluster.ts"
import * as RedisSentinel from "../support/RedisSentinel.ts"
import * as RedisServer from "../support/RedisServer.ts"
import * as Replicated from "../support/Replicated.ts"

type Rules = ReadonlyArray<string>

const page = readFileSync("docs/permissions.md", "utf8")

const isRule = (word: string) => /^[~&+]/.test(word)

/** The rules of the command that makes a user, below a heading. */
const rulesBelow = (heading: string): Rules =>
  blocks(section(page, heading)).filter(({ language }) => language === "sh").slice(0, 1)
    .flatMap(({ text }) => text.replaceAll("'", "").split(/\s+/)).filter(isRule)

/** The rules in the row of a table that begins so. */
const rulesOf = (row: string): Rules => {
  const line = page.split("\n").find((line) => line.startsWith(`| ${row} `))
  if (line === undefined) throw new Error(`docs/permissions.md has no row "${row}"`)
  return Array.from(line.matchAll(/`([+~&][^`]*)`/g), ([, rule = ""]) => rule.replaceAll("\\", ""))
}

const standalone = rulesBelow("A standalone Redis, or one behind sentinels")
const sentinels = rulesBelow("Sentinels")
const cluster = rulesBelow("A cluster")
const flowMachine = rulesBelow("A Redis that is shared with FlowMachine")
const replicas = rulesOf("the layer has `replicas`")
const database = rulesOf("the URL names a database other than 0")
const history = [...rulesOf("the layer has a `history`"), ...rulesOf("a program reads the history")]
const optional = rulesOf("never")

/** In a cluster, a query whose slot is being moved. */
const movingKey = QueryKey.makeUnsafe({ db: "warehouse", query: "moving" })

interface Servers {
  /** Those that have the queries. */
  readonly admins: ReadonlyArray<Redis>
  /** Those that know the user, if they are others. */
  readonly guards?: ReadonlyArray<Redis>
  readonly hasHistory?: boolean
  readonly storeAs: (name: string, password: string) => Layer.Layer<RedisStore.RedisStore, unknown>
}

const urlOf = (name: string, password: string, { host, port }: { readonly host: string; readonly port: number }) =>
  Redacted.make(`redis://${name}:${password}@${host}:${port}`)

const acquireStandalone = Effect.gen(function*() {
  const server = yield* RedisServer.acquire()
  return { server, admins: [yield* RedisAdmin.connect(server.url)] }
})

/** While the scope is open, hides the rejections that ioredis leaves unhandled where ASKING is denied. */
const askingHidden = Effect.acquireRelease(
  Effect.sync(() => {
    const others = process.listeners("unhandledRejection")
    process.removeAllListeners("unhandledRejection")
    process.on("unhandledRejection", (error, promise) => {
      if (!String(error).includes("'asking'")) others.forEach((other) => other(error, promise))
    })
    return others
  }),
  (others) =>
    Effect.sync(() => {
      process.removeAllListeners("unhandledRejection")
      others.forEach((other) => process.on("unhandledRejection", other))
    })
)

const acquireCluster = Effect.gen(function*() {
  yield* askingHidden
  const servers = yield* RedisCluster.acquire()
  const nodes = servers.primaries.map(({ server: { host, port } }) => ({ host, port }))
  yield* driveTo(movingKey, "Completed").pipe(Effect.provide(RedisStoreLive.layerCluster({ nodes })))
  yield* RedisCluster.beginToMoveSlotOf(servers, redisKeyOf(movingKey))
  return { nodes, admins: [...servers.primaries, ...servers.replicas].map(({ admin }) => admin) }
})

interface Deployment {
  readonly where: string
  readonly rules: Rules
  readonly acquire: Effect.Effect<Servers, unknown, Scope.Scope>
}

const deployments: ReadonlyArray<Deployment> = [
  {
    where: "a standalone Redis",
    rules: standalone,
    acquire: Effect.map(acquireStandalone, ({ admins, server }) => ({
      admins,
      storeAs: (name, password) => RedisStoreLive.layer({ url: urlOf(name, password, server) })
    }))
  },
  {
    where: "a database other than 0",
    rules: [...standalone, ...database],
    acquire: Effect.map(acquireStandalone, ({ admins, server }) => ({
      admins,
      storeAs: (name, password) =>
        RedisStoreLive.layer({ url: Redacted.make(`${Redacted.value(urlOf(name, password, server))}/1`) })
    }))
  },
  {
    where: "a Redis that keeps histories",
    rules: [...standalone, ...history],
    acquire: Effect.map(acquireStandalone, ({ admins, server }) => ({
      admins,
      hasHistory: true,
      storeAs: (name, password) => RedisStoreLive.layer({ url: urlOf(name, password, server), history: { length: 10 } })
    }))
  },
  {
    where: "a Redis whose replicas are waited for",
    rules: [...standalone, ...replicas],
    acquire: Effect.map(Replicated.acquire(), ({ primary }) => ({
      admins: [primary.admin],
      storeAs: (name, password) =>
        RedisStoreLive.layer({ url: urlOf(name, password, primary.server), replicas: { count: 1 } })
    }))
  },
  {
    where: "a Redis that is shared with FlowMachine",
    rules: flowMachine,
    acquire: Effect.map(acquireStandalone, ({ admins, server }) => ({
      admins,
      storeAs: (name, password) => RedisStoreFlowMachine.layer({ url: urlOf(name, password, server) })
    }))
  },
  {
    where: "a Redis that sentinels name",
    rules: standalone,
    acquire: Effect.map(RedisSentinel.acquire(), ({ addresses, name, primary }) => ({
      admins: [primary.admin],
      storeAs: (username, password) =>
        RedisStoreLive.layer({ redis: { sentinels: [...addresses], name, username, password } })
    }))
  },
  {
    where: "sentinels",
    rules: sentinels,
    acquire: Effect.map(RedisSentinel.acquire(), ({ addresses, name, primary, sentinels }) => ({
      admins: [primary.admin],
      guards: sentinels.map(({ admin }) => admin),
      storeAs: (sentinelUsername, sentinelPassword) =>
        RedisStoreLive.layer({ redis: { sentinels: [...addresses], name, sentinelUsername, sentinelPassword } })
    }))
  }
]

const inCluster: Deployment = {
  where: "a cluster",
  rules: cluster,
  acquire: Effect.map(acquireCluster, ({ admins, nodes }) => ({
    admins,
    storeAs: (username, password) =>
      RedisStoreLive.layerCluster({ nodes, cluster: { redisOptions: { username, password } } })
  }))
}

const channels = (admin: Redis) =>
  Effect.promise(async () => [
    ...await admin.pubsub("CHANNELS", "query-state:*") as Array<string>,
    ...await admin.pubsub("SHARDCHANNELS") as Array<string>
  ])

/** Everything that the library ever asks of Redis. */
const everything = ({ admins, hasHistory = false }: Servers, key: QueryKey.QueryKey) =>
  Effect.gen(function*() {
    const query = yield* QueryStateMachine.make(key)
    const fleet = yield* QueryFleet.make
    // Longer than the test: nothing but a notification ends this wait.
    const schedule = Schedule.spaced("1 hour")
    yield* query.enqueue
    const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
    const renewed = (expiresAt: unknown) =>
      Effect.repeat(query.currentState, {
        until: (state) => state._tag !== "Executing" || `${state.claim?.expiresAt}` !== `${expiresAt}`
      })
    yield* query.withExecution(({ expiresAt }) => renewed(expiresAt), { lease: "9 seconds" })
    const { state } = yield* Fiber.join(waiter)
    yield* Effect.repeat(Effect.forEach(admins, channels), { until: (all) => all.flat().length === 0 })
    yield* query.withReset(() => Effect.void)
    const { hasResults, hasTimeToLive, results } = yield* RedisStore.RedisStore
    if (hasResults) {
      yield* query.trigger(["Queue", "Execute", "Finish"], { result: { _tag: "Leave", text: "result" } })
      yield* query.trigger("Queue", { result: { _tag: "Get" } })
      assert.strictEqual((yield* results(key)).success?.text, "result")
      yield* query.trigger(["Reset", "FinishReset"], { result: { _tag: "Drop" } })
    }
    yield* query.trigger(["Queue", "Cancel"], hasTimeToLive ? { timeToLive: "1 hour" } : {})
    yield* query.trigger(["Reset", "FinishReset"])
    yield* query.trigger("Queue", { lease: "1 millis" })
    const lapsed = yield* Effect.repeat(query.currentState, { until: ({ _tag }) => _tag === "Cancelled" })
    for (const admin of admins) yield* Effect.promise(() => admin.script("FLUSH"))
    yield* query.record
    const moving = yield* QueryStateMachine.make(movingKey)
    yield* moving.record
    if (hasHistory) assert.isAtLeast((yield* query.history).length, 1)
    const listed = yield* Stream.runCollect(fleet.list(key.db, { states: ["Cancelled"] }))
    assert.deepStrictEqual([state._tag, lapsed._tag, listed.map(({ key }) => key)], ["Completed", "Cancelled", [key]])
  })

/** All operations on a fresh query, by a user with the given ACL rules. */
const everythingAs = Effect.fnUntraced(function*(servers: Servers, rules: Rules) {
  for (const admin of servers.guards ?? servers.admins) {
    yield* Effect.promise(async () => {
      await admin.call("ACL", "SETUSER", "app", "reset", "on", ">secret", ...rules)
      await admin.call("ACL", "LOG", "RESET")
    })
  }
  const { query } = yield* freshKey
  const key = QueryKey.makeUnsafe({ db: `warehouse-${query}`, query: "stock" })
  return yield* Effect.provide(everything(servers, key), servers.storeAs("app", "secret"))
})

/** What the servers denied, and in which respect. */
const denied = ({ admins, guards = admins }: Servers) =>
  Effect.promise(async () => {
    const entries = await Promise.all(guards.map((admin) => admin.call("ACL", "LOG") as Promise<Array<Array<string>>>))
    return entries.flat().map((entry) => {
      const field = (name: string) => entry[entry.indexOf(name) + 1]
      return field("reason") === "command" ? `+${field("object")}` : `${field("reason")}`
    })
  })

/** The operations that a server must deny to a user without a rule. */
const denialOf = (rule: string) => rule.startsWith("~") ? "key" : rule.startsWith("&") ? "channel" : rule

const isExact = ({ acquire, rules }: Deployment) =>
  Effect.gen(function*() {
    const servers = yield* acquire
    yield* everythingAs(servers, rules)
    assert.deepStrictEqual((yield* denied(servers)).filter((rule) => !optional.includes(rule)), [])

    for (const missing of rules) {
      const attempt = yield* Effect.forkChild(
        everythingAs(servers, rules.filter((rule) => rule !== missing))
      )
      yield* Effect.repeat(Effect.delay(denied(servers), 5), { until: (all) => all.includes(denialOf(missing)) })
        .pipe(
          Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(`nothing needs ${missing}`) })
        )
      yield* missing === "+asking" ? Fiber.await(attempt) : Fiber.interrupt(attempt)
    }
  })

const name = "in $where the listed permissions are enough, and each is needed"

it.live.each(deployments)(name, isExact, { concurrent: true, timeout: 120_000 })

// Alone: a cluster that is kept waiting takes its servers for dead, and makes a replica a primary.
it.live.each([inCluster])(name, isExact, 120_000)
