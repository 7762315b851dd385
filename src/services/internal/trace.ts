/** Spans of the operations on queries, where a tracer is installed. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Headers from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { keyIssue } from "../../domain/internal/ids.ts"
import type { StillPending } from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import * as Reason from "../../domain/Reason.ts"
import * as Transition from "../../domain/Transition.ts"
import type { Command, RedisStore } from "../RedisStore.ts"
import { RedisStoreError } from "../RedisStoreError.ts"

type Store = RedisStore["Service"]

type Attributes = Readonly<Record<string, unknown>>

// The native tracer exports nothing, and each pending wait would keep a span (benchmark: 100,000 waiters of 100,000
// queries).
const isTraced = ({ context }: Fiber.Fiber<unknown, unknown>): boolean =>
  Context.get(context, Tracer.Tracer) !== Tracer.nativeTracer

// A span is no reason to fail where a caller without types passed no key.
export const attributesOf = (key: QueryKey): Attributes =>
  keyIssue(key) === undefined ? { "query_state.db": key.db, "query_state.query": key.query } : {}

const isStoreError = Schema.is(RedisStoreError)

/** The name of the error, for `error.type`: one of few. An interruption has none. */
const errorType = (cause: Cause.Cause<unknown>): string | undefined => {
  const reason = Reason.fromCause(cause)
  if (reason._tag !== "Failed") return undefined
  const error = Cause.squash(cause)
  return isStoreError(error) ? error.reason._tag : reason.error
}

// Stack traces of errors show the name of the span; a line of this file would not help.
const parentOptions: Tracer.TraceOptions = { captureStackTrace: false }

/** Puts a span around an effect. A span that failed has an `error.type`, as in OpenTelemetry's conventions. */
const inSpan = <A, E, R>(
  name: string,
  options: Tracer.SpanOptionsNoTrace,
  use: (span: Tracer.Span) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.useSpan(
    name,
    options,
    (span) =>
      Effect.onError(Effect.withParentSpan(use(span), span, parentOptions), (cause) =>
        Effect.sync(() => {
          const type = errorType(cause)
          if (type !== undefined) span.attribute("error.type", type)
        }))
  )

/** Puts a span around an effect, where a tracer is installed. */
export const spanned =
  (name: string, attributes: () => Attributes) => <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => isTraced(fiber) ? inSpan(name, { attributes: attributes() }, () => self) : self)

/**
 * The span under which a claim is made, as W3C Trace Context writes it. It is left out where the tracer has other ids: the
 * store would refuse those, and a trace must not make a transition fail.
 */
const traceparentOf = ({ context }: Fiber.Fiber<unknown, unknown>): string | undefined => {
  const span = Option.getOrUndefined(Context.getOption(context, Tracer.ParentSpan))
  if (span?._tag !== "Span" || Context.get(span.annotations, Tracer.DisablePropagation)) return undefined
  const headers = HttpTraceContext.toHeaders(span)
  return Option.isSome(HttpTraceContext.w3c(headers)) ? headers["traceparent"] : undefined
}

/** Adds the span to a command that claims. */
const withTrace = (command: Command, fiber: Fiber.Fiber<unknown, unknown>): Command =>
  command.lease === undefined && command.holder === undefined
    ? command
    : { traceparent: traceparentOf(fiber), ...command }

const make = (store: Store): Store => {
  const compareAndSet = (key: QueryKey, command: Command) =>
    Effect.withFiber((fiber) => {
      if (!isTraced(fiber)) return store.compareAndSet(key, command)
      const attributes = { ...attributesOf(key), "query_state.event": Transition.eventsOf(command.event).join(", ") }
      return inSpan("QueryStateMachine.trigger", { attributes }, (span) =>
        Effect.tap(store.compareAndSet(key, withTrace(command, fiber)), ({ changed, record }) =>
          Effect.sync(() => {
            span.attribute("query_state.changed", changed)
            span.attribute("query_state.state", record.state._tag)
          })))
    })
  const compareAndSetMany: Store["compareAndSetMany"] = (commands) =>
    Effect.withFiber((fiber) => {
      if (!isTraced(fiber)) return store.compareAndSetMany(commands)
      const attributes = { "query_state.count": commands.length }
      return inSpan("QueryFleet.triggerMany", { attributes }, (span) =>
        Effect.tap(
          store.compareAndSetMany(commands.map(([key, command]) => [key, withTrace(command, fiber)])),
          (answers) => Effect.sync(() => span.attribute("query_state.failed", answers.filter(Result.isFailure).length))
        ))
    })
  return {
    compareAndSet: compareAndSet as Store["compareAndSet"],
    compareAndSetMany,
    read: (key) => store.read(key),
    readMany: (keys) => store.readMany(keys),
    renew: (key, fence, lease, report) => store.renew(key, fence, lease, report),
    changes: (key, listener) => store.changes(key, listener),
    keys: (db) => store.keys(db),
    databases: store.databases,
    history: (key) => store.history(key),
    currentTime: store.currentTime,
    results: (key) => store.results(key),
    hasTimeToLive: store.hasTimeToLive,
    hasResults: store.hasResults
  }
}

const tracedStores = new WeakMap<Store, Store>()

/** A store whose transitions have spans, and whose claims carry the span under which they are made. */
export const traced = (store: Store): Store => {
  const existing = tracedStores.get(store)
  if (existing !== undefined) return existing
  const made = make(store)
  tracedStores.set(store, made)
  tracedStores.set(made, made)
  return made
}

const linkTo = (record: QueryRecord): ReadonlyArray<Tracer.SpanLink> =>
  Option.match(HttpTraceContext.w3c(Headers.fromInput({ traceparent: record.traceparent })), {
    onNone: () => [],
    onSome: (span) => [{ span, attributes: { "query_state.version": record.version } }]
  })

const lastRecord = <A extends QueryRecord>(
  exit: Exit.Exit<A, StillPending | RedisStoreError>
): QueryRecord | undefined => {
  if (Exit.isSuccess(exit)) return exit.value
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error?._tag === "StillPending" ? error.record : undefined
}

/** Puts a span around a wait, and links it to the span of the run, also of another process. */
export const waiting = <A extends QueryRecord>(
  key: QueryKey,
  self: Effect.Effect<A, StillPending | RedisStoreError>
): Effect.Effect<A, StillPending | RedisStoreError> =>
  Effect.withFiber((fiber) =>
    isTraced(fiber)
      ? inSpan("QueryStateMachine.waitUntilComplete", { attributes: attributesOf(key) }, (span) =>
        Effect.onExit(self, (exit) =>
          Effect.sync(() => {
            const record = lastRecord(exit)
            if (record !== undefined) span.addLinks(linkTo(record))
          })))
      : self
  )
