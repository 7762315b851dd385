/** Turns errors of ioredis and Redis into store failures. */
import { printable } from "../../../domain/internal/printable.ts"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"

/**
 * Copies a foreign error without its command. The errors of ioredis hold the failed command with its arguments, and a server
 * quotes the arguments of an unknown command. They may hold a password, which must not reach a log.
 */
const withoutCommand = (error: unknown): Error => {
  if (!(error instanceof Error)) return new Error(printable(error, longestMessage))
  const code = "code" in error && typeof error.code === "string" ? `${error.code} ` : ""
  const message = error.message.replace(/, with args beginning with:.*/s, "")
  const kept = new Error(printable(message === "" ? `${error.name} ${code}`.trim() : message, longestMessage))
  kept.name = error.name
  return kept
}

// A logger prints the message of a cause as it is.
const longestMessage = 1000

// The messages of several versions of Redis if a script does what its user may not do.
const isDeniedInScript = (message: string): boolean =>
  /^ERR (The user executing the script can't|ACL failure in script)/.test(message)

// The message of a replica that gets WAIT.
const isForReplica = (message: string): boolean => message.startsWith("ERR WAIT cannot be used with replica")

// The message of ioredis for an answer that is not in the protocol of Redis.
const isGibberish = (message: string): boolean => message.startsWith("Unknown RESP type")

// The message of a server that accepts no further connection.
const isFull = (message: string): boolean => message.includes("max number of clients")

// The message of a server that is no part of a cluster.
const isNoCluster = (message: string): boolean => message.startsWith("ERR This instance has cluster support disabled")

// The message of ioredis if no sentinel named the primary, with the error of the last sentinel, if there is one.
const sentinelsFailed = /^All sentinels are unreachable.*?(?:Last error: (.*))?$/s

const sentinelFailure = (cause: Error, lastError: string | undefined): RedisStoreError.Failure => {
  if (lastError === undefined || lastError.startsWith("ERR No such master")) {
    return new RedisStoreError.InvalidInput({ issue: "the sentinels know no primary of that name" })
  }
  return byCode.get(codeOf(lastError))?.(cause) ?? new RedisStoreError.ConnectionLost({ cause })
}

const codeOf = (message: string): string => message.split(" ", 1)[0] ?? ""

const byCode = new Map<string, (cause: Error) => RedisStoreError.Failure>([
  ["READONLY", (cause) => new RedisStoreError.ReadOnly({ cause })],
  ["OOM", (cause) => new RedisStoreError.OutOfMemory({ cause })],
  ...["LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED", "MISCONF", "NOREPLICAS"].map((code) =>
    [code, (cause: Error) => new RedisStoreError.Unavailable({ cause })] as const
  ),
  ...["NOAUTH", "WRONGPASS", "NOPERM"].map((code) =>
    [code, (cause: Error) => new RedisStoreError.AccessDenied({ cause })] as const
  ),
  ["DENIED", () =>
    new RedisStoreError.AccessDenied({
      cause: new Error("the server is in protected mode: give it a password, or set protected-mode to no")
    })],
  ...["MOVED", "ASK", "CROSSSLOT"].map((code) =>
    [
      code,
      () =>
        new RedisStoreError.InvalidInput({
          issue: "the server is a node of a cluster: use RedisStoreLive.layerCluster"
        })
    ] as const
  )
])

/** Whether Redis answered that it does not have the script. */
export const isNoScript = (error: unknown): boolean => error instanceof Error && error.message.startsWith("NOSCRIPT")

/** Whether a server of a cluster answered that another one has the key. */
export const isElsewhere = (error: unknown): boolean => error instanceof Error && /^(MOVED|ASK) /.test(error.message)

/** The store failure for an error of ioredis. `redisKey` is the key of the command, if it has one. */
export const toFailure = (error: unknown, redisKey?: string): RedisStoreError.Failure => {
  // The cause why ioredis could not find the slots of a cluster.
  if (error instanceof Error && "lastNodeError" in error && error.lastNodeError instanceof Error) {
    return toFailure(error.lastNodeError, redisKey)
  }
  const cause = withoutCommand(error)
  const ofSentinels = sentinelsFailed.exec(cause.message)
  if (ofSentinels !== null) return sentinelFailure(cause, ofSentinels[1])
  const code = codeOf(cause.message)
  if (code === "WRONGTYPE" && redisKey !== undefined) return new RedisStoreError.WrongType({ redisKey, cause })
  const known = byCode.get(code)
  if (known !== undefined) return known(cause)
  if (isForReplica(cause.message)) return new RedisStoreError.ReadOnly({ cause })
  if (isFull(cause.message)) {
    return new RedisStoreError.Unavailable({
      cause: new Error(`${cause.message}: raise maxclients, or use fewer connections`)
    })
  }
  if (isNoCluster(cause.message)) {
    return new RedisStoreError.InvalidInput({ issue: "the server is no part of a cluster: use RedisStoreLive.layer" })
  }
  if (isDeniedInScript(cause.message)) return new RedisStoreError.AccessDenied({ cause })
  return cause.name === "ReplyError" || isGibberish(cause.message)
    ? new RedisStoreError.UnexpectedReply({ reply: cause.message, cause })
    : new RedisStoreError.ConnectionLost({ cause })
}

/** Whether the same command may succeed shortly: the server starts, fails over, or cannot be reached. */
export const isTransient = ({ _tag }: RedisStoreError.Failure): boolean =>
  _tag === "Unavailable" || _tag === "ReadOnly" || _tag === "ConnectionLost"

/** Whether Redis refused a write because it is a replica. */
export const isReadOnly = (error: Error): boolean => error.message.startsWith("READONLY")
