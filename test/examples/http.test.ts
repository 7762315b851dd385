import { assert, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Ref, Schedule, Scope } from "effect"
import {
  QueryKey,
  QueryStateMachine,
  RedisStore,
  RedisStoreError,
  RedisStoreFaults,
  RedisStoreMemory
} from "effect-query-state"
import { HttpServer } from "effect/http"
import { ReportError, Reports } from "../../examples/http/Reports.ts"
import * as Server from "../../examples/http/Server.ts"
import { db } from "../../examples/support/StoreLayer.ts"

interface Answer {
  readonly status: number
  readonly location?: string
  readonly body?: unknown
}

const ask = (base: string) => (method: "GET" | "POST", path: string, body?: unknown) =>
  Effect.promise(async (signal): Promise<Answer> => {
    const response = await fetch(`${base}/api/0${path}`, {
      method,
      redirect: "manual",
      signal,
      ...(body === undefined
        ? undefined
        : { body: JSON.stringify(body), headers: { "content-type": "application/json" } })
    })
    const text = await response.text()
    const location = response.headers.get("location")
    return {
      status: response.status,
      ...(location === null ? undefined : { location }),
      ...(text === "" ? undefined : { body: JSON.parse(text) })
    }
  })

type Ask = ReturnType<typeof ask>

const until = (ask: Effect.Effect<Answer>, isThat: (answer: Answer) => boolean) =>
  Effect.repeat(ask, { schedule: Schedule.spaced("10 millis"), until: isThat })
const settled = (ask: Ask, id: string) => until(ask("GET", `/poll/${id}`), ({ status }) => status !== 202)

/** Reports that are computed when the test says so, and servers for them. */
const setUp = Effect.gen(function*() {
  const gate = yield* Deferred.make<void, ReportError>()
  const computed = yield* Ref.make(0)
  const interrupted = yield* Ref.make(0)
  const reports = Reports.of({
    compute: (id, claim) =>
      Effect.gen(function*() {
        yield* Ref.update(computed, (n) => n + 1)
        yield* Effect.orDie(claim.report({ done: 1, total: 4 }))
        yield* Deferred.await(gate)
        return [`rows of ${id}`]
      }).pipe(Effect.onInterrupt(() => Ref.update(interrupted, (n) => n + 1))),
    rows: (id) => Effect.map(Deferred.isDone(gate), (isDone) => isDone ? Option.some([`rows of ${id}`]) : Option.none())
  })
  const store = yield* RedisStore.RedisStore
  const context = Context.make(Reports, reports).pipe(Context.add(RedisStore.RedisStore, store))
  const serve = Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const server = yield* Layer.buildWithScope(
      Layer.provide(Server.layer(0), Layer.succeedContext(context)),
      scope
    )
    const { address } = Context.get(server, HttpServer.HttpServer)
    return { ask: ask(HttpServer.formatAddress(address)), stop: Scope.close(scope, Exit.void) }
  })
  return { gate, computed, interrupted, serve }
})

type Setting = Effect.Success<typeof setUp>

const StoreLayer = RedisStoreFaults.layer(RedisStoreMemory.layer)

const test = <E>(
  name: string,
  body: (
    setting: Setting
  ) => Effect.Effect<void, E, RedisStore.RedisStore | RedisStoreFaults.RedisStoreFaults | Scope.Scope>
) => it.live(name, () => Effect.flatMap(setUp, body).pipe(Effect.scoped, Effect.provide(StoreLayer)))

const run = { report: "daily-totals" }
const executing = { status: "executing", msg: "is currently running", progress: { done: 1, total: 4 } }

test("a query is accepted, pending with its progress, and then leads to its result", ({ gate, serve }) =>
  Effect.gen(function*() {
    const { ask } = yield* serve
    assert.deepStrictEqual(yield* ask("POST", "/run", run), { status: 202, location: "/api/0/poll/daily-totals" })
    const hasProgress = ({ body }: Answer) => typeof body === "object" && body !== null && "progress" in body
    const pending = { status: 202, body: executing }
    assert.deepStrictEqual(yield* until(ask("GET", "/poll/daily-totals"), hasProgress), pending)
    assert.deepStrictEqual(yield* ask("GET", "/get/daily-totals"), pending)

    yield* Deferred.succeed(gate, undefined)
    assert.deepStrictEqual(yield* settled(ask, "daily-totals"), { status: 303, location: "/api/0/get/daily-totals" })
    assert.deepStrictEqual(yield* ask("GET", "/get/daily-totals"), { status: 200, body: ["rows of daily-totals"] })
  }))

test("an accepted query is never missing, even with a slow store", ({ serve }) =>
  Effect.gen(function*() {
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    const { ask } = yield* serve
    yield* faults.inject(({ operation }) =>
      operation === "compareAndSet" ? { _tag: "Delay", duration: "100 millis" } : undefined
    )
    yield* ask("POST", "/run", run)
    assert.strictEqual((yield* ask("GET", "/poll/daily-totals")).status, 202)
  }))

test("a query is run once for many clients of many servers", ({ computed, gate, serve }) =>
  Effect.gen(function*() {
    const servers = yield* Effect.replicateEffect(serve, 2)
    const asked = servers.flatMap(({ ask }) => Array.from({ length: 5 }, () => ask("POST", "/run", run)))
    const statuses = (yield* Effect.all(asked, { concurrency: "unbounded" })).map(({ status }) => status)
    assert.deepStrictEqual(statuses, asked.map(() => 202))

    yield* Deferred.succeed(gate, undefined)
    for (const { ask } of servers) assert.strictEqual((yield* settled(ask, "daily-totals")).status, 303)
    assert.strictEqual(yield* Ref.get(computed), 1)
  }))

test("a query that was never run is missing, and an invalid id is refused", ({ serve }) =>
  Effect.gen(function*() {
    const { ask } = yield* serve
    const missing = {
      status: 404,
      body: { _tag: "Missing", status: "known", msg: "is known, but has not yet been run" }
    }
    assert.deepStrictEqual(yield* ask("GET", "/poll/forecast"), missing)
    assert.deepStrictEqual(yield* ask("GET", "/get/forecast"), missing)
    assert.deepStrictEqual(yield* ask("POST", "/cancel/forecast"), missing)
    assert.strictEqual((yield* ask("POST", "/run", { report: "forecast" })).status, 400)
  }))

test("a query that failed says why", ({ gate, serve }) =>
  Effect.gen(function*() {
    const { ask } = yield* serve
    yield* ask("POST", "/run", run)
    yield* Deferred.fail(gate, new ReportError({ message: "division by zero" }))
    const errored = { status: "errored", msg: "finished with an error (ReportError: division by zero)" }
    assert.deepStrictEqual(yield* settled(ask, "daily-totals"), { status: 500, body: { _tag: "Failed", ...errored } })
    const noResult = { status: 403, body: { _tag: "NoResult", ...errored } }
    assert.deepStrictEqual(yield* ask("GET", "/get/daily-totals"), noResult)
  }))

test("a cancelled query is run again when it is requested again", ({ computed, gate, interrupted, serve }) =>
  Effect.gen(function*() {
    const { ask } = yield* serve
    // Two ask, and neither of them takes a cancelled query for one to be run again.
    yield* ask("POST", "/run", run)
    yield* ask("POST", "/run", run)
    const cancelled = { status: "cancelled", msg: "was cancelled (requested by a client)" }
    assert.deepStrictEqual(yield* ask("POST", "/cancel/daily-totals"), { status: 200, body: cancelled })
    assert.deepStrictEqual(yield* ask("POST", "/cancel/daily-totals"), { status: 200, body: cancelled })
    yield* Effect.repeat(Ref.get(interrupted), { schedule: Schedule.spaced("10 millis"), until: (n) => n === 1 })
    const failed = { status: 500, body: { _tag: "Failed", ...cancelled } }
    assert.deepStrictEqual(yield* ask("GET", "/poll/daily-totals"), failed)
    assert.deepStrictEqual(yield* ask("GET", "/get/daily-totals"), failed)

    yield* Deferred.succeed(gate, undefined)
    yield* ask("POST", "/run", run)
    assert.strictEqual((yield* settled(ask, "daily-totals")).status, 303)
    assert.strictEqual(yield* Ref.get(computed), 2)
    const refused = { status: 409, body: { _tag: "Refused", status: "completed", msg: "is ready" } }
    assert.deepStrictEqual(yield* ask("POST", "/cancel/daily-totals"), refused)
  }))

const rows = { status: 200, body: ["rows of daily-totals"] }

test("a client that hangs up hands its query to the next that waits, at another server", ({ computed, gate, interrupted, serve }) =>
  Effect.gen(function*() {
    const [one, two] = yield* Effect.all([serve, serve])
    const impatient = yield* Effect.forkChild(one.ask("GET", "/rows/daily-totals"))
    yield* until(two.ask("GET", "/poll/daily-totals"), ({ status }) => status === 202)
    const patient = yield* Effect.replicateEffect(Effect.forkChild(two.ask("GET", "/rows/daily-totals")), 5)

    yield* Fiber.interrupt(impatient)
    yield* Effect.repeat(Ref.get(computed), { schedule: Schedule.spaced("10 millis"), until: (n) => n === 2 })
    yield* Deferred.succeed(gate, undefined)
    assert.deepStrictEqual(yield* Fiber.joinAll(patient), patient.map(() => rows))
    assert.deepStrictEqual(yield* one.ask("GET", "/rows/daily-totals"), rows)
    assert.deepStrictEqual([yield* Ref.get(computed), yield* Ref.get(interrupted)], [2, 1])
  }))

test("a server that stops hands its query to the server that is asked next", ({ computed, gate, serve }) =>
  Effect.gen(function*() {
    const [one, two] = yield* Effect.all([serve, serve])
    yield* one.ask("POST", "/run", run)
    yield* one.stop
    const query = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db, query: "daily-totals" }))
    assert.isTrue(yield* query.isCancelled)

    assert.strictEqual((yield* two.ask("GET", "/poll/daily-totals")).status, 202)
    yield* Deferred.succeed(gate, undefined)
    assert.strictEqual((yield* settled(two.ask, "daily-totals")).status, 303)
    assert.strictEqual(yield* Ref.get(computed), 2)
  }))

test("a query that fails says why to a client that waits for its rows", ({ gate, serve }) =>
  Effect.gen(function*() {
    const { ask } = yield* serve
    yield* Deferred.fail(gate, new ReportError({ message: "division by zero" }))
    const errored = { status: "errored", msg: "finished with an error (ReportError: division by zero)" }
    assert.deepStrictEqual(yield* ask("GET", "/rows/daily-totals"), {
      status: 500,
      body: { _tag: "Failed", ...errored }
    })
  }))

test("while the store is away, the service is unavailable", ({ serve }) =>
  Effect.gen(function*() {
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    const { ask } = yield* serve
    yield* faults.inject(() => ({ _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) }))
    for (const asked of [ask("POST", "/run", run), ask("GET", "/poll/daily-totals"), ask("GET", "/get/daily-totals")]) {
      assert.strictEqual((yield* asked).status, 503)
    }
  }))
