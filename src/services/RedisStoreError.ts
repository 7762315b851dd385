/**
 * What can go wrong between a program and its store.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as QueryKey from "../domain/QueryKey.ts"

const id = <const Name extends string>(name: Name) => `effect-query-state/RedisStoreError/${name}` as const

const cause = { cause: Schema.optionalKey(Schema.Defect()) }

/**
 * Failure: the connection could not be made, or broke before the answer.
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
 * Failure: Redis did not answer within `after` milliseconds.
 *
 * **Details**
 *
 * The transition may have happened, or may still happen: read the record to find out.
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
 * Failure: the server cannot serve now, because it loads its data, or has lost its primary or its cluster.
 *
 * @category failures
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>(id("Unavailable"))("Unavailable", cause) {
  override get message(): string {
    return `Redis cannot serve at the moment (${describe(this.cause)}). Try again shortly`
  }
}

/**
 * Failure: a command reached a read-only replica. Reads may have to settle a lease, so they need the primary, too.
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
    return "Redis is out of memory. Free some, or raise maxmemory"
  }
}

/**
 * Failure: the credentials are wrong, or the user lacks a permission.
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
 * Failure: the transition reached only `acknowledged` of the `wanted` replicas in time.
 *
 * **Details**
 *
 * The transition is recorded on the primary, and others see it. It is lost if the primary fails and a replica without it
 * takes over.
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
 * Failure: the Redis key holds a value of another type, which this library has not written.
 *
 * @category failures
 * @since 0.1.0
 */
export class WrongType extends Schema.TaggedError<WrongType>(id("WrongType"))("WrongType", {
  redisKey: Schema.String,
  ...cause
}) {
  override get message(): string {
    return `the Redis key ${this.redisKey} holds another type of value. Remove it, or give the layer another prefix`
  }
}

/**
 * Failure: the record is in a state that this version does not know; `raw` is the stored text. A newer version of this
 * library, or another program, wrote it.
 *
 * @category failures
 * @since 0.1.0
 */
export class UnknownState extends Schema.TaggedError<UnknownState>(id("UnknownState"))("UnknownState", {
  raw: Schema.String
}) {
  override get message(): string {
    return `the record is in the unknown state ${quote(this.raw)}. Update this process, or repair the record`
  }
}

/**
 * Failure: a field of the record cannot be read.
 *
 * @category failures
 * @since 0.1.0
 */
export class InvalidRecord extends Schema.TaggedError<InvalidRecord>(id("InvalidRecord"))("InvalidRecord", {
  issue: Schema.String
}) {
  override get message(): string {
    return `the record cannot be read: ${this.issue}. Repair or delete it`
  }
}

/**
 * Failure: the reply is not one of Redis: another program listens there, or the server is too old.
 *
 * @category failures
 * @since 0.1.0
 */
export class UnexpectedReply extends Schema.TaggedError<UnexpectedReply>(id("UnexpectedReply"))("UnexpectedReply", {
  reply: Schema.String,
  ...cause
}) {
  override get message(): string {
    return `the server answered ${quote(this.reply)}. Check that it is Redis 7.0 or newer, or Valkey 7.2 or newer`
  }
}

/**
 * Failure: an option is invalid. Nothing was sent.
 *
 * @category failures
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>(id("InvalidInput"))("InvalidInput", {
  issue: Schema.String
}) {
  override get message(): string {
    return `invalid input: ${this.issue}`
  }
}

/**
 * Schema for store failures.
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
 * Why an operation of the store failed.
 *
 * @category failures
 * @since 0.1.0
 */
export type Failure = typeof Failure.Type

/**
 * The names of all store failures.
 *
 * @category failures
 * @since 0.1.0
 */
export const failureTags: ReadonlyArray<Failure["_tag"]> = Failure.members.map(({ fields }) =>
  fields._tag.schema.literal
)

/**
 * Error of a store: the operation, its query, and the failure as `reason`.
 *
 * **When to use**
 *
 * Match on one failure with `Effect.catchReason("RedisStoreError", "TimedOut", …)`.
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
    return `Could not ${this.operation}${query}: ${this.reason.message}`
  }
}

/**
 * Checks whether an error is about one record only, so that other queries still work.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAboutRecord = ({ reason: { _tag } }: RedisStoreError): boolean =>
  _tag === "UnknownState" || _tag === "InvalidRecord" || _tag === "WrongType"

const quote = (text: string): string => JSON.stringify(text.length <= 100 ? text : `${text.slice(0, 100)}…`)

const describe = (error: unknown): string => error instanceof Error ? error.message : "no answer"
