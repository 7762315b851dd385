/** The flags that say where the queries are, and the store that they select. */
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as RedisStoreFlowMachine from "../layers/RedisStoreFlowMachine.ts"
import * as RedisStoreLive from "../layers/RedisStoreLive.ts"

/** A flag that is off unless it is given. */
export const toggle = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(Flag.withDefault(false), Flag.withDescription(description))

export const flags = {
  url: Flag.Redacted("url").pipe(
    Flag.withFallbackConfig(Config.Redacted("REDIS_URL")),
    Flag.withDescription(
      "URL of the Redis; default: the environment variable REDIS_URL, which other users of the machine cannot see"
    )
  ),
  prefix: Flag.String("prefix").pipe(
    Flag.optional,
    Flag.withDescription("Prefix of all keys; default: query-state")
  ),
  history: Flag.Int("history").pipe(
    Flag.optional,
    Flag.withDescription(
      "Length of the history that the other processes record, so that changes made here are recorded too; default: none"
    )
  ),
  flowmachine: toggle("flowmachine", "The Redis is shared with FlowMachine"),
  cluster: toggle("cluster", "The URL names one server of a Redis Cluster")
}

const decodeUrl = Schema.decodeUnknownOption(Schema.URLFromString)

/** The cluster node that a URL names, with the credentials for all nodes. */
export const clusterAt = (url: Redacted.Redacted<string>) =>
  Option.map(decodeUrl(Redacted.value(url)), ({ hostname, password, port, protocol, username }) => ({
    // A URL has an IPv6 address in brackets, and a socket has none.
    nodes: [{ host: hostname.replace(/^\[(.*)\]$/, "$1"), port: port === "" ? 6379 : Number(port) }],
    cluster: {
      redisOptions: {
        ...(username === "" ? undefined : { username: decodeURIComponent(username) }),
        ...(password === "" ? undefined : { password: decodeURIComponent(password) }),
        ...(protocol === "rediss:" ? { tls: {} } : undefined)
      }
    }
  }))

export const layer = ({ cluster, flowmachine, history, prefix, url }: {
  readonly url: Redacted.Redacted<string>
  readonly prefix: Option.Option<string>
  readonly history: Option.Option<number>
  readonly flowmachine: boolean
  readonly cluster: boolean
}) => {
  const options = {
    prefix: Option.getOrUndefined(prefix),
    history: Option.getOrUndefined(Option.map(history, (length) => ({ length })))
  }
  if (flowmachine) return RedisStoreFlowMachine.layer({ ...options, url })
  // The single-server layer reports what is wrong with a URL.
  return Option.match(cluster ? clusterAt(url) : Option.none(), {
    onNone: () => RedisStoreLive.layer({ ...options, url }),
    onSome: (servers) => RedisStoreLive.layerCluster({ ...options, ...servers })
  })
}
