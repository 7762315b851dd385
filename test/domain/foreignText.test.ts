/** Text that others chose, in messages: ids, holders, notes, reasons, server errors, and values of fields. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Schema } from "effect"
import {
  HistoryEntry,
  Progress,
  QueryError,
  QueryKey,
  QueryRecord,
  QueryState,
  Reason,
  RedisStoreError,
  Transition
} from "effect-query-state"
import { printable, quote } from "../../src/domain/internal/printable.ts"
import { toFailure } from "../../src/layers/internal/redis/failures.ts"

const forged = "a\n[12:00:00] INFO forged\r\u001b[2J\u0007\u009b2J\u202Eb\u2066\u2028\u200F\uFEFF"
const key = QueryKey.makeUnsafe({ db: forged, query: forged })
const huge = `x${forged}`.repeat(200_000)

const requested = Reason.requested({ by: forged, note: forged })
const failed = Reason.failed({ error: forged, message: forged })
const lapsed = Reason.leaseExpired(forged)
const record = (state: QueryState.QueryState): QueryRecord.QueryRecord => ({
  key,
  state,
  version: 7,
  attempts: 0,
  progress: { done: 1, note: forged.slice(0, 100) }
})
const cause = new Error(huge)
const at = DateTime.makeUnsafe(0)
const storeErrors: ReadonlyArray<RedisStoreError.Failure> = [
  new RedisStoreError.ConnectionLost({ cause }),
  new RedisStoreError.Unavailable({ cause }),
  new RedisStoreError.AccessDenied({ cause }),
  new RedisStoreError.WrongType({ redisKey: huge }),
  new RedisStoreError.UnknownState({ raw: huge, redisKey: huge }),
  new RedisStoreError.InvalidRecord({ issue: huge, redisKey: huge }),
  new RedisStoreError.UnexpectedReply({ reply: huge, cause }),
  new RedisStoreError.InvalidInput({ issue: huge })
]

const messages: ReadonlyArray<readonly [name: string, text: string]> = [
  ["QueryKey.format", QueryKey.format(key)],
  // A caller without types can make any key.
  ["QueryKey.format of a huge key", QueryKey.format({ db: huge, query: huge } as unknown as QueryKey.QueryKey)],
  ["InvalidQueryKey", new QueryKey.InvalidQueryKey({ issue: huge }).message],
  ...[requested, failed, lapsed].map((reason) => [`Reason.format ${reason._tag}`, Reason.format(reason)] as const),
  ["Reason.format of a huge holder", Reason.format(Reason.leaseExpired(huge))],
  ["Progress.format", Progress.format({ done: 1, note: huge })],
  ["QueryRecord.format", QueryRecord.format(record(QueryState.make("Errored", { reason: failed })))],
  [
    "HistoryEntry.format",
    HistoryEntry.format({ at, version: 7, from: "Executing", to: "Errored", holder: huge, reason: failed })
  ],
  [
    "IllegalTransition",
    Transition.refusal(record(QueryState.make("Cancelled", { reason: requested })), "Queue").message
  ],
  ["LeaseLost", new QueryError.LeaseLost({ fence: 7, record: record(QueryState.completed) }).message],
  ["StillPending", new QueryError.StillPending({ record: record(QueryState.make("Queued")) }).message],
  ["QueryErrored", new QueryError.QueryErrored({ key, reason: failed }).message],
  ["QueryCancelled", new QueryError.QueryCancelled({ key, reason: requested }).message],
  ["QueryResetFailed", new QueryError.QueryResetFailed({ key, reason: lapsed }).message],
  ...storeErrors.map((reason) =>
    [reason._tag, new RedisStoreError.RedisStoreError({ operation: huge, key, reason }).message] as const
  )
]

describe("foreign text", () => {
  it.each(messages)("is cut and on one line, without control characters, in %s", (_, text) => {
    assert.isBelow(text.length, 20_000)
    assert.notMatch(text, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u)
    assert.include(text, String.raw`\u{1b}[2J`)
  })

  it("stays as it is where it is plain", () => {
    const plain = QueryKey.makeUnsafe({ db: "warehouse", query: "daily-totals \\ 売上 🎉 \"é\"" })
    assert.strictEqual(QueryKey.format(plain), "warehouse/daily-totals \\ 売上 🎉 \"é\"")
    assert.strictEqual(quote("odd", 100), "\"odd\"")
  })

  it.prop("is printable, and bounded by its limit, whatever it is", [
    Schema.String,
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100 }))
  ], ([text, maxLength]) => {
    const shown = printable(text, maxLength)
    assert.notMatch(shown, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u)
    assert.isAtMost(shown.length, maxLength * 10)
  })
})

it("the error of a server is kept as a cause that is safe to log", () => {
  const failure = toFailure(new Error(`ERR ${huge}`))
  const cause = "cause" in failure ? failure.cause : undefined
  if (!(cause instanceof Error)) return assert.fail("the failure has no cause")
  assert.isBelow(cause.message.length, 20_000)
  assert.notMatch(cause.message, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u)
})

describe("a message about a record", () => {
  const redisKey = "query-state:{warehouse:daily-totals}"

  it("names the Redis key, where that is known", () => {
    assert.deepStrictEqual(
      [
        new RedisStoreError.UnknownState({ raw: "odd", redisKey }).message,
        new RedisStoreError.UnknownState({ raw: "odd" }).message,
        new RedisStoreError.InvalidRecord({ issue: "no version", redisKey }).message,
        new RedisStoreError.InvalidRecord({ issue: "no version" }).message
      ],
      [
        `the record in the Redis key ${redisKey} is in the unknown state "odd". A newer version may have written it: update this process`,
        "the record is in the unknown state \"odd\". A newer version may have written it: update this process",
        `the record in the Redis key ${redisKey} cannot be read: no version. A newer version may have written it: update this process, or repair the record`,
        "the record cannot be read: no version. A newer version may have written it: update this process, or repair the record"
      ]
    )
  })

  it("never advises to remove a key of FlowMachine, nor a record", () => {
    const finist = "finist:warehouse:daily-totals-state"
    const { message } = new RedisStoreError.WrongType({ redisKey: finist })
    assert.include(message, `the Redis key ${finist} holds another type of value`)
    assert.notMatch(message, /(?<!do not )(remove|delete)/i)
    for (
      const failure of [
        new RedisStoreError.UnknownState({ raw: "odd", redisKey: finist }),
        new RedisStoreError.InvalidRecord({ issue: "no version", redisKey: finist })
      ]
    ) assert.notMatch(failure.message, /remove|delete/i)
  })
})
