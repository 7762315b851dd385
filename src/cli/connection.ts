/** How the commands find the queries: the flags that say where, and the store that they stand for. */
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
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
  flowmachine: toggle("flowmachine", "The Redis is shared with FlowMachine")
}

export const layer = ({ flowmachine, history, prefix, url }: {
  readonly url: Redacted.Redacted<string>
  readonly prefix: Option.Option<string>
  readonly history: Option.Option<number>
  readonly flowmachine: boolean
}) => {
  const options = {
    url,
    prefix: Option.getOrUndefined(prefix),
    history: Option.getOrUndefined(Option.map(history, (length) => ({ length })))
  }
  return flowmachine ? RedisStoreFlowMachine.layer(options) : RedisStoreLive.layer(options)
}
