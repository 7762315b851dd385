/** Opens and closes a client of ioredis. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from "ioredis"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { isReadOnly, toFailure } from "./failures.ts"
import type { Timeouts } from "./options.ts"
import { hearRefusal, refusalOf } from "./refusal.ts"

/** Where a Redis is: a URL, or the options of ioredis. */
export type Address =
  | { readonly url: Redacted.Redacted<string>; readonly redis?: undefined }
  | { readonly redis: RedisOptions; readonly url?: undefined }

/** Where a cluster is: some of its servers, and the options of ioredis. */
export interface ClusterAddress {
  readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly cluster?: ClusterOptions | undefined
}

const decodeUrl = Schema.decodeUnknownResult(
  Schema.URLFromString.check(
    Schema.makeFilter((url) =>
      url.protocol === "redis:" || url.protocol === "rediss:" || "the URL must start with redis:// or rediss://"
    ),
    Schema.makeFilter((url) => url.hostname !== "" || "the URL must name a host, as in redis://localhost:6379"),
    Schema.makeFilter((url) =>
      /^\/?\d*$/.test(url.pathname) || "the URL must name the database by its number, as in redis://localhost:6379/0"
    ),
    // ioredis takes options from the query, as texts, and they override the options of this library. Some make it throw later.
    Schema.makeFilter((url) => url.search === "" || "the URL must have no query: give ioredis its options as `redis`"),
    Schema.makeFilter(({ password, username }) =>
      Result.isSuccess(Result.try(() => decodeURIComponent(username + password))) ||
      "user and password must be percent-encoded in the URL"
    )
  )
)

// The messages of the schema never hold the URL, which may hold a password.
const validUrl = (url: string): Result.Result<string, RedisStoreError.Failure> =>
  Result.mapBoth(decodeUrl(url), {
    onFailure: (error) => new RedisStoreError.InvalidInput({ issue: error.message }),
    onSuccess: () => url
  })

// If the connection breaks, commands under way fail at once. This library sends them again, with a mark for the script.
const neverResends = { maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false }

/**
 * How long the server has to close a connection from its side, in milliseconds. ioredis waits this long even if the
 * connection is closed already, and that delays the end of the process.
 */
export const disconnectTimeout = 1

/**
 * Replaces a connection that is silent for `commandTimeout` when an answer is due. If the other side vanished without closing
 * the connection, the operating system would notice that only after a quarter of an hour.
 */
const givenUpAfter = ({ commandTimeout }: Timeouts) => ({ socketTimeout: Duration.toMillis(commandTimeout) })

const required = ({ connectTimeout }: Timeouts) => ({
  lazyConnect: true,
  connectTimeout: Duration.toMillis(connectTimeout),
  disconnectTimeout,
  replyMapping: "legacy" as const
})

/**
 * Further options of a client that finds its primary through sentinels.
 *
 * By default, ioredis asks the sentinels without end, and waits without end for a frozen one. Here, the first connection asks
 * each of them once, so a wrong name or password fails at once, and within `connectTimeout`. Later connections ask them
 * without end.
 */
const forSentinels = (redis: RedisOptions, connectTimeout: number, isConnected: () => boolean): RedisOptions => {
  const count = redis.sentinels?.length ?? 0
  const strategy = redis.sentinelRetryStrategy ?? ((times: number) => Math.min(times * 10, 1000))
  return count === 0 ? {} : {
    // A primary that is cut off, and not dead, leaves its connections open. Only sentinels announce that it was replaced.
    failoverDetector: redis.failoverDetector ?? true,
    sentinelCommandTimeout: redis.sentinelCommandTimeout ?? Math.min(1000, Math.ceil(connectTimeout / (count + 1))),
    sentinelRetryStrategy: (times) => isConnected() ? strategy(times) : null
  }
}

const createFrom = (redis: RedisOptions, timeouts: Timeouts, url?: string): Redis => {
  let isConnected = false
  const sentinels = forSentinels(redis, Duration.toMillis(timeouts.connectTimeout), () => isConnected)
  const options: RedisOptions & { replyMapping: "legacy" } = {
    ...neverResends,
    ...givenUpAfter(timeouts),
    // If a server refuses to write, its name may belong to another server by now. Reconnect at the first of many refusals:
    // each time that ioredis disconnects, it adds a listener to the socket.
    reconnectOnError: (error) => isReadOnly(error) && !client.stream.writableEnded,
    ...redis,
    ...sentinels,
    ...required(timeouts)
  }
  const client: Redis = url === undefined ? new Redis(options) : new Redis(url, options)
  client.once("ready", () => {
    isConnected = true
  })
  return client
}

const orInvalid = <A>(create: () => A): Result.Result<A, RedisStoreError.Failure> =>
  Result.try({
    try: create,
    catch: (error) => new RedisStoreError.InvalidInput({ issue: `ioredis refuses its options: ${error}` })
  })

const create = (address: Address, timeouts: Timeouts): Result.Result<Redis, RedisStoreError.Failure> =>
  address.url === undefined
    ? orInvalid(() => createFrom(address.redis, timeouts))
    : Result.flatMap(
      validUrl(Redacted.value(address.url)),
      (url) => orInvalid(() => createFrom({}, timeouts, url))
    )

const createCluster = (
  { cluster, nodes }: ClusterAddress,
  timeouts: Timeouts
): Result.Result<Cluster, RedisStoreError.Failure> =>
  orInvalid(() =>
    new Cluster(nodes.map((node) => ({ ...node })), {
      ...cluster,
      lazyConnect: true,
      keyPrefix: "",
      redisOptions: {
        ...givenUpAfter(timeouts),
        ...cluster?.redisOptions,
        ...neverResends,
        ...required(timeouts),
        keyPrefix: ""
      }
    })
  )

// A client ends within milliseconds, or never: a cluster never ends if it is closed while it looks for its servers.
const longestCloseMillis = 1000

/** Closes a client, and returns once its socket is closed. */
export const close = (client: Redis | Cluster): Effect.Effect<void> =>
  Effect.callback((resume) => {
    // @effect-diagnostics-next-line globalTimersInEffect:off -- a socket lives in real time
    const timer = setTimeout(() => resume(Effect.void), longestCloseMillis)
    const done = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    // A client between two attempts to connect has nothing to close, and never emits "end".
    const isConnected = client.status !== "end" && client.status !== "reconnecting"
    if (isConnected) client.once("end", done)
    client.disconnect()
    if (!isConnected) done()
  })

/** Fails with why the nodes of a cluster close each connection at once, if they do. */
const orRefusal =
  (nodes: ReadonlyArray<RedisOptions>) =>
  (failure: RedisStoreError.Failure): Effect.Effect<never, RedisStoreError.Failure> =>
    Effect.forEach(nodes, refusalOf, { concurrency: "unbounded" }).pipe(
      Effect.map((refusals) => refusals.find((refusal) => refusal !== undefined)),
      Effect.flatMap((refusal) => Effect.fail(refusal === undefined ? failure : toFailure(refusal)))
    )

const connect = Effect.fnUntraced(function*<Client extends Redis | Cluster>(
  create: Result.Result<Client, RedisStoreError.Failure>,
  { connectTimeout }: Timeouts,
  nodes: ReadonlyArray<RedisOptions> = []
): Effect.fn.Return<Client, RedisStoreError.Failure, Scope.Scope> {
  const after = Duration.toMillis(connectTimeout)
  const client = yield* Effect.acquireRelease(Effect.fromResult(create), close)

  // `connect` rejects only with "Connection is closed". The event before that has the cause.
  let lastError: unknown
  client.on("error", (error) => {
    // The message of the server before it closes a connection is the cause.
    if (!(lastError instanceof Error && lastError.name === "ReplyError")) lastError = error
  })

  if (client instanceof Redis) hearRefusal(client, (refusal) => lastError = refusal)

  yield* Effect.tryPromise({
    try: () => client.connect(),
    catch: (error) => toFailure(lastError ?? error)
  }).pipe(
    Effect.catchTag("ConnectionLost", orRefusal(nodes)),
    Effect.timeoutOrElse({
      duration: connectTimeout,
      orElse: () =>
        Effect.fail(lastError === undefined ? new RedisStoreError.TimedOut({ after }) : toFailure(lastError))
    })
  )
  // If the server does not have the requested database, ioredis goes on in another one.
  if (lastError !== undefined) {
    return yield* new RedisStoreError.InvalidInput({ issue: `the server refuses the database: ${lastError}` })
  }
  return client
})

/** Connects to Redis, or fails within `connectTimeout`; closing the scope closes the connection. */
export const open = (address: Address, timeouts: Timeouts) =>
  Effect.suspend(() => connect(create(address, timeouts), timeouts))

/** Connects to a cluster likewise, and begins to connect to each of its primaries. */
export const openCluster = (address: ClusterAddress, timeouts: Timeouts) =>
  Effect.suspend(() =>
    connect(
      createCluster(address, timeouts),
      timeouts,
      address.nodes.map((node) => ({ ...address.cluster?.redisOptions, ...node }))
    )
  ).pipe(
    Effect.tap((client) =>
      Effect.sync(() => {
        for (const node of client.nodes("master")) if (node.status === "wait") node.connect().catch(() => {})
      })
    )
  )
