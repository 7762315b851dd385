/** Decodes the replies to commands other than scripts. It checks everything. */
import * as Result from "effect/Result"
import { InvalidInput, UnexpectedReply } from "../../../services/RedisStoreError.ts"
import { maxNumber } from "../scripts/scripts.ts"

const unexpected = (command: string, reply: unknown) =>
  Result.fail(new UnexpectedReply({ reply: `${describe(reply)} to ${command}` }))

const describe = (reply: unknown): string =>
  Array.isArray(reply) ? `[${reply.slice(0, 3).map(describe).join()}]` : String(reply).slice(0, 100)

/** The time of a server in microseconds, from the reply to TIME. */
export const micros = (reply: unknown): Result.Result<number, UnexpectedReply> => {
  const [seconds, micros] = Array.isArray(reply) ? reply : []
  const sum = Number(seconds ?? Number.NaN) * 1_000_000 + Number(micros ?? Number.NaN)
  return isMicros(sum) ? Result.succeed(sum) : unexpected("TIME", reply)
}

/** The time of a server in microseconds, from the reply of one of our scripts. */
export const timeOf = (reply: unknown): Result.Result<number, UnexpectedReply> => {
  const micros = Array.isArray(reply) ? Number(reply[1] ?? Number.NaN) : Number.NaN
  return isMicros(micros) ? Result.succeed(micros) : unexpected("a script", reply)
}

const isMicros = (micros: number): boolean => Number.isSafeInteger(micros) && micros > 0 && micros < maxNumber

/** The hash of a script, from the reply to SCRIPT LOAD. */
export const sha = (reply: unknown): Result.Result<string, UnexpectedReply> =>
  typeof reply === "string" ? Result.succeed(reply) : unexpected("SCRIPT LOAD", reply)

/** Refuses servers that the layer for a single server cannot work with, from the reply to HELLO if there is one. */
export const mode = (reply: Result.Result<unknown, unknown>): Result.Result<void, InvalidInput> => {
  const fields = Result.isSuccess(reply) && Array.isArray(reply.success) ? reply.success.map(String) : []
  switch (fields[fields.indexOf("mode") + 1]) {
    case "cluster":
      return Result.fail(
        new InvalidInput({ issue: "the server is a node of a cluster: use RedisStoreLive.layerCluster" })
      )
    case "sentinel":
      return Result.fail(
        new InvalidInput({
          issue: "the server is a sentinel: name it in `redis.sentinels`, and the primary in `redis.name`"
        })
      )
    default:
      return Result.succeed(undefined)
  }
}

/** The position of a SCAN. */
export interface Page {
  readonly cursor: string
  /** How many pages came before. */
  readonly count: number
  /** An earlier cursor. If it comes again, the SCAN would never end (Brent's algorithm for finding a cycle). */
  readonly seen: string | undefined
}

// A server holds at most 2^32 keys, and looks at a thousand or more for a page.
export const maxPages = 2 ** 22

export const firstPage: Page = { cursor: "0", count: 0, seen: undefined }

const isPowerOfTwo = (count: number): boolean => (count & (count - 1)) === 0

/** The keys of a page and the page after it, from the reply to SCAN. */
export const scanned = (
  { count, cursor, seen }: Page,
  reply: unknown
): Result.Result<{ readonly redisKeys: ReadonlyArray<string>; readonly next: Page | undefined }, UnexpectedReply> => {
  const [next, redisKeys] = Array.isArray(reply) ? reply : []
  if (typeof next !== "string" || !isTexts(redisKeys)) {
    return unexpected("SCAN", reply)
  }
  if (next === "0") return Result.succeed({ redisKeys, next: undefined })
  if (count >= maxPages) return unexpected("SCAN", `no end after ${count} pages`)
  if (next === seen || next === cursor) return unexpected("SCAN", `the cursor ${next} again`)
  return Result.succeed({
    redisKeys,
    next: { cursor: next, count: count + 1, seen: isPowerOfTwo(count) ? next : seen }
  })
}

/** The fields and values of each entry, from the reply to XRANGE. */
export const entries = (reply: unknown): Result.Result<ReadonlyArray<ReadonlyArray<string>>, UnexpectedReply> => {
  const isEntry = (entry: unknown): entry is readonly [id: string, fields: ReadonlyArray<string>] =>
    Array.isArray(entry) && typeof entry[0] === "string" && isTexts(entry[1])
  return Array.isArray(reply) && reply.every(isEntry)
    ? Result.succeed(reply.map(([, fields]) => fields))
    : unexpected("XRANGE", reply)
}

const isTexts = (reply: unknown): reply is ReadonlyArray<string> =>
  Array.isArray(reply) && reply.every((text) => typeof text === "string")
