/** How the commands find the queries: the flags that say where, and the store that they stand for. */
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
    Flag.withDescription("Redis to look at; default: REDIS_URL, which other users of the machine cannot see")
  ),
  prefix: Flag.String("prefix").pipe(
    Flag.optional,
    Flag.withDescription("What the names of all keys start with; default: query-state")
  ),
  history: Flag.Int("history").pipe(
    Flag.optional,
    Flag.withDescription(
      "How many transitions of each query the other processes keep, so that what happens here is kept as well; default: none"
    )
  ),
  flowmachine: toggle("flowmachine", "The Redis is shared with FlowMachine"),
  cluster: toggle("cluster", "The Redis is one server of a cluster, from which the others are found")
}

const decodeUrl = Schema.decodeUnknownOption(Schema.URLFromString)

/** The server of a cluster that a URL names, with what it takes to connect to any of them. */
const clusterAt = (url: Redacted.Redacted<string>) =>
  Option.map(decodeUrl(Redacted.value(url)), ({ hostname, password, port, protocol, username }) => ({
    nodes: [{ host: hostname, port: port === "" ? 6379 : Number(port) }],
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
  // What is wrong with a URL is told where it is all that there is to connect to.
  return Option.match(cluster ? clusterAt(url) : Option.none(), {
    onNone: () => RedisStoreLive.layer({ ...options, url }),
    onSome: (servers) => RedisStoreLive.layerCluster({ ...options, ...servers })
  })
}
