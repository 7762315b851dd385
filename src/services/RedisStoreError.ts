/**
 * Failures between a program and its store.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { printable, printableIssue, quote } from "../domain/internal/printable.ts"
import * as QueryKey from "../domain/QueryKey.ts"

const id = <const Name extends string>(name: Name) => `effect-query-state/RedisStoreError/${name}` as const

const cause = { cause: Schema.optionalKey(Schema.Defect()) }

/**
 * Failure: the connection could not be made, or broke before the reply.
 *
 * **Details**
 *
 * The transition may or may not have happened: read the record to find out.
 *
 * @category failures
 * @since 0.1.0
 */
export class ConnectionLost extends Schema.TaggedError<ConnectionLost>(id("ConnectionLost"))("ConnectionLost", cause) {
  override get message(): string {
    return `no connection to Redis (${describe(this.cause)}). Check the address and that the server runs`
  }
}

/**
 * Failure: no reply within `after` milliseconds.
 *
 * **Details**
 *
 * A transition that timed out may have happened, or may still happen: read the record to find out.
 *
 * @category failures
 * @since 0.1.0
 */
export class TimedOut extends Schema.TaggedError<TimedOut>(id("TimedOut"))("TimedOut", {
  after: Schema.Finite,
  ...cause
}) {
  override get message(): string {
    return `Redis did not answer within ${this.after} ms. Read the record to see whether the command was carried out`
  }
}

/**
 * Failure: the server can be reached, but cannot serve now: it loads its data, or lost its primary or its cluster.
 *
 * @category failures
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>(id("Unavailable"))("Unavailable", cause) {
  override get message(): string {
    return `Redis cannot serve commands now (${describe(this.cause)}). Try again shortly`
  }
}

/**
 * Failure: a read-only replica was asked to write. A read also writes if it has to settle a lapsed lease.
 *
 * @category failures
 * @since 0.1.0
 */
export class ReadOnly extends Schema.TaggedError<ReadOnly>(id("ReadOnly"))("ReadOnly", cause) {
  override get message(): string {
    return "this Redis is a read-only replica. Connect to the primary"
  }
}

/**
 * Failure: the server has reached its `maxmemory`.
 *
 * @category failures
 * @since 0.1.0
 */
export class OutOfMemory extends Schema.TaggedError<OutOfMemory>(id("OutOfMemory"))("OutOfMemory", cause) {
  override get message(): string {
    return "Redis is out of memory. Free memory, or raise maxmemory"
  }
}

/**
 * Failure: wrong credentials, or a user without the permission.
 *
 * @category failures
 * @since 0.1.0
 */
export class AccessDenied extends Schema.TaggedError<AccessDenied>(id("AccessDenied"))("AccessDenied", cause) {
  override get message(): string {
    return `Redis denied access (${describe(this.cause)}). Check the user, the password and its permissions`
  }
}

/**
 * Failure: a transition was replicated to `acknowledged` replicas in time, and not to the `wanted` number.
 *
 * **Details**
 *
 * The transition is recorded on the primary, and others see it. It is lost if the primary fails before the replica that
 * takes over has received it.
 *
 * @category failures
 * @since 0.1.0
 */
export class NotReplicated extends Schema.TaggedError<NotReplicated>(id("NotReplicated"))("NotReplicated", {
  wanted: Schema.Finite,
  acknowledged: Schema.Finite
}) {
  override get message(): string {
    return `it is recorded on the primary, but reached only ${this.acknowledged} of the ${this.wanted} requested replicas in ` +
      "time. Do not repeat it: read the record, and check the replicas"
  }
}

/**
 * Failure: a Redis key holds a value of another type than this library writes. Another program wrote it.
 *
 * @category failures
 * @since 0.1.0
 */
export class WrongType extends Schema.TaggedError<WrongType>(id("WrongType"))("WrongType", {
  redisKey: Schema.String,
  ...cause
}) {
  override get message(): string {
    return `the Redis key ${printable(this.redisKey, maxKeyLength)} holds another type of value. ${
      this.redisKey.startsWith("finist:")
        ? "FlowMachine owns this key: do not remove it, and check that both use the same layout"
        : "Find out what wrote it, or give the layer another prefix"
    }`
  }
}

/**
 * Failure: a record in a state that this version does not know. `raw` is the stored state, and `redisKey` the key of the
 * record. A newer version of this library, or another program, wrote it.
 *
 * @category failures
 * @since 0.1.0
 */
export class UnknownState extends Schema.TaggedError<UnknownState>(id("UnknownState"))("UnknownState", {
  raw: Schema.String,
  redisKey: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return `the record${inKey(this.redisKey)} is in the unknown state ${quote(this.raw, 100)}. ${updateAdvice}`
  }
}

/**
 * Failure: a record with a field that cannot be read. `redisKey` is the key of the record.
 *
 * @category failures
 * @since 0.1.0
 */
export class InvalidRecord extends Schema.TaggedError<InvalidRecord>(id("InvalidRecord"))("InvalidRecord", {
  issue: Schema.String,
  redisKey: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return `the record${inKey(this.redisKey)} cannot be read: ${
      printableIssue(this.issue)
    }. ${updateAdvice}, or repair the record`
  }
}

/**
 * Failure: a reply that no supported Redis sends. Another program listens at this address, or the server is too old.
 *
 * @category failures
 * @since 0.1.0
 */
export class UnexpectedReply extends Schema.TaggedError<UnexpectedReply>(id("UnexpectedReply"))("UnexpectedReply", {
  reply: Schema.String,
  ...cause
}) {
  override get message(): string {
    return `the server replied ${quote(this.reply, 100)}. Check that it is Redis 7.0 or newer, or Valkey 7.2 or newer`
  }
}

/**
 * Failure: an argument or option is invalid. Nothing was sent.
 *
 * @category failures
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>(id("InvalidInput"))("InvalidInput", {
  issue: Schema.String
}) {
  override get message(): string {
    return `invalid input: ${printableIssue(this.issue)}`
  }
}

/**
 * Schema for all store failures.
 *
 * @category failures
 * @since 0.1.0
 */
export const Failure = Schema.Union([
  ConnectionLost,
  TimedOut,
  Unavailable,
  ReadOnly,
  OutOfMemory,
  AccessDenied,
  NotReplicated,
  WrongType,
  UnknownState,
  InvalidRecord,
  UnexpectedReply,
  InvalidInput
])

/**
 * Why an operation of a store failed.
 *
 * @category failures
 * @since 0.1.0
 */
export type Failure = typeof Failure.Type

/**
 * Names of all store failures.
 *
 * @category failures
 * @since 0.1.0
 */
export const failureTags: ReadonlyArray<Failure["_tag"]> = Failure.members.map(({ fields }) =>
  fields._tag.schema.literal
)

/**
 * Error of a store: the operation, the key of the query, and the `reason` why it failed.
 *
 * **When to use**
 *
 * Handle one reason with `Effect.catchReason("RedisStoreError", "TimedOut", …)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class RedisStoreError extends Schema.TaggedError<RedisStoreError>(id("RedisStoreError"))("RedisStoreError", {
  operation: Schema.String,
  key: Schema.optionalKey(QueryKey.QueryKey),
  reason: Failure
}) {
  override get message(): string {
    const query = this.key === undefined ? "" : ` query ${QueryKey.format(this.key)}`
    return `Could not ${printable(this.operation, 600)}${query}: ${this.reason.message}`
  }
}

/**
 * Checks whether an error is about one record only: operations on other queries can still succeed.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAboutRecord = ({ reason: { _tag } }: RedisStoreError): boolean =>
  _tag === "UnknownState" || _tag === "InvalidRecord" || _tag === "WrongType"

// A key holds two ids of 512 bytes each, percent-encoded, and a prefix.
const maxKeyLength = 4000

const inKey = (redisKey: string | undefined): string =>
  redisKey === undefined ? "" : ` in the Redis key ${printable(redisKey, maxKeyLength)}`

const updateAdvice = "A newer version may have written it: update this process"

const describe = (error: unknown): string => error instanceof Error ? printable(error.message, 300) : "no reply"
