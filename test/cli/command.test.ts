import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema } from "effect"
import {
  HistoryEntry,
  QueryKey,
  QueryRecord,
  QueryState,
  Reason,
  RedisStore,
  RedisStoreFlowMachine,
  RedisStoreLive,
  Transition
} from "effect-query-state"
import { readFileSync } from "node:fs"
import { networkInterfaces } from "node:os"
import { inject } from "vitest"
import { withAdmin } from "../support/flowMachine.ts"
import { driveTo, freshKey } from "../support/queries.ts"
import * as RedisCluster from "../support/RedisCluster.ts"
import * as RedisServer from "../support/RedisServer.ts"
import { Cli, run } from "./Cli.ts"

const StoreLayer = Layer.suspend(() => RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) }))
const Environment = Layer.merge(Cli.layer, Layer.orDie(StoreLayer))

// A dozen programs, one after the other.
const slow = 90_000

/** A database that no other test has. */
const freshDb = Effect.map(freshKey, ({ db, query }) => `${db}/${query}`)

const keyOf = (db: string, query: string) => QueryKey.makeUnsafe({ db, query })

/** Such a database, with a query in each state, which is named after it. */
const oneInEachState = Effect.gen(function*() {
  const db = yield* freshDb
  for (const tag of QueryState.tags) {
    // A query that was never moved has no record, and is not listed.
    if (tag !== "Known") yield* driveTo(keyOf(db, tag), tag)
  }
  return db
})

const statesIn = (db: string) =>
  RedisStore.RedisStore.use((store) => store.readMany(QueryState.tags.map((tag) => keyOf(db, tag)))).pipe(
    Effect.flatMap(Effect.forEach((result) => Effect.fromResult(result))),
    Effect.map((records) => records.map(({ state }) => state._tag))
  )

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.toCodecJson(QueryRecord.QueryRecord)))
const decodeEntry = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.toCodecJson(HistoryEntry.HistoryEntry)))
const linesOf = (text: string) => text.trim().split("\n")

it.layer(Environment, { excludeTestServices: true, timeout: "60 seconds" })("the inspector", (it) => {
  it.effect.each<[layout: string, flags: ReadonlyArray<string>]>([
    ["its own layout", []],
    ["its own layout, under a prefix", ["--prefix", "other"]],
    ["FlowMachine's", ["--flowmachine"]]
  ])("lists the databases in %s, each once, also as JSON", ([layout, flags]) =>
    Effect.gen(function*() {
      const { url } = yield* RedisServer.acquire()
      const REDIS_URL = url
      const none = yield* run(["databases", ...flags], { REDIS_URL })
      assert.deepStrictEqual(none, {
        code: 0,
        stdout: "",
        stderr: "No database has a record. Check --prefix and the number of the Redis database\n"
      })
      const address = { url: Redacted.make(url), prefix: flags.includes("--prefix") ? "other" : undefined }
      yield* Effect.forEach(
        ["mart", "ware\nhouse\u202e"].flatMap((db) => [keyOf(db, "a"), keyOf(db, "b")]),
        (key) => driveTo(key, "Queued")
      ).pipe(
        Effect.provide(
          layout === "FlowMachine's" ? RedisStoreFlowMachine.layer(address) : RedisStoreLive.layer(address)
        )
      )
      const { stdout, ...listed } = yield* run(["databases", ...flags], { REDIS_URL })
      assert.deepStrictEqual(listed, { code: 0, stderr: "" })
      assert.deepStrictEqual(linesOf(stdout).toSorted(), ["mart", String.raw`ware\nhouse\u{202e}`])
      const json = yield* run(["databases", "--json", ...flags], { REDIS_URL })
      assert.deepStrictEqual(linesOf(json.stdout).toSorted(), [
        `{"db":"mart"}`,
        String.raw`{"db":"ware\nhouse\u202e"}`
      ])
    }))

  it.effect("lists the queries of a database", () =>
    Effect.gen(function*() {
      const db = yield* oneInEachState
      const { code, stderr, stdout } = yield* run(["list", db])
      const listed = linesOf(stdout).map((line) => line.split(/ +/))
      assert.deepStrictEqual(
        { code, stderr, states: listed.map(([state]) => state).toSorted() },
        { code: 0, stderr: "", states: QueryState.tags.filter((tag) => tag !== "Known").toSorted() }
      )
      assert.isTrue(listed.every(([state, , query]) => state === query))
    }))

  it.effect("lists the queries in given states, also as JSON", () =>
    Effect.gen(function*() {
      const db = yield* oneInEachState
      const store = yield* RedisStore.RedisStore
      const { stdout } = yield* run(["list", db, "--state", "Errored", "--state", "Queued", "--json"])
      assert.deepStrictEqual(
        linesOf(stdout).map((line) => decode(line)).toSorted((a, b) => a.version - b.version),
        [yield* store.read(keyOf(db, "Queued")), yield* store.read(keyOf(db, "Errored"))]
      )
    }))

  it.effect("reports unreadable records on standard error, and lists the others", () =>
    Effect.gen(function*() {
      const db = yield* freshDb
      yield* driveTo(keyOf(db, "legible"), "Queued")
      yield* withAdmin((admin) => admin.hset(`query-state:{${encodeURIComponent(db)}:odd}`, { s: "odd", v: "1" }))
      const { code, stderr, stdout } = yield* run(["list", db])
      assert.deepStrictEqual({ code, count: linesOf(stdout).length }, { code: 0, count: 1 })
      assert.match(stdout, /^Queued .* legible\n$/)
      assert.strictEqual(
        stderr,
        `Left out of the list: Could not read query ${db}/odd: the record in the Redis key `
          + `query-state:{${encodeURIComponent(db)}:odd} is in the unknown state "odd". `
          + "A newer version may have written it: update this process\n"
      )
    }))

  it.effect("shows who holds a query, and for how long", () =>
    Effect.gen(function*() {
      const key = keyOf(yield* freshDb, "held")
      const { version } = yield* driveTo(key, "Executing", { holder: "worker-3", lease: "1 minute" })
      const { code, stdout } = yield* run(["show", key.db, key.query])
      assert.strictEqual(code, 0)
      assert.match(stdout, /^State +Executing: the query is currently running$/m)
      assert.match(stdout, /^Holder +worker-3$/m)
      assert.match(stdout, /^Lease +until \S+, \d+s left unless it is renewed$/m)
      assert.match(stdout, new RegExp(`^Version +${version}$`, "m"))
    }))

  it.effect("shows attempts, what a holder waits for, labels, and when a record expires, also as JSON", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const db = yield* freshDb
      const waiting = keyOf(db, "waiting")
      const { version } = yield* driveTo(waiting, "Executing", { lease: "1 minute" })
      const other = { key: keyOf(db, "other"), version: 0 }
      const renewed = yield* store.renew(waiting, version, "1 minute", { waitsFor: [other] })
      const shown = yield* run(["show", db, waiting.query])
      assert.include(shown.stdout, `Waits for ${db}/other\nAttempts  1\n`)
      assert.deepStrictEqual(decode((yield* run(["show", db, waiting.query, "--json"])).stdout), renewed)
      const kept = yield* driveTo(keyOf(db, "kept"), "Errored", { timeToLive: "1 hour", label: "a label" })
      assert.match((yield* run(["list", db, "--state", "Errored"])).stdout, /  kept  "a label"  \(/)
      assert.match((yield* run(["show", db, "kept"])).stdout, /^Expires +\S+, in 59m \d+s: Known from then on$/m)
      assert.deepStrictEqual(decode((yield* run(["show", db, "kept", "--json"])).stdout), kept)
    }))

  it.effect("shows one query as JSON, also one without a record", () =>
    Effect.gen(function*() {
      const key = keyOf(yield* freshDb, "never moved")
      const { code, stdout } = yield* run(["show", key.db, key.query, "--json"])
      assert.deepStrictEqual([code, decode(stdout)], [0, QueryRecord.absent(key)])
    }))

  it.effect(
    "gives the state of a query by its exit code when asked to",
    () =>
      Effect.gen(function*() {
        const db = yield* oneInEachState
        const codes = yield* Effect.forEach(
          QueryState.tags,
          (tag) => Effect.map(run(["show", db, tag, "--exit-status"]), ({ code }) => [tag, code])
        )
        assert.deepStrictEqual(Object.fromEntries(codes), {
          Known: 5,
          Queued: 3,
          Executing: 3,
          Completed: 0,
          Errored: 4,
          Cancelled: 4,
          Resetting: 3,
          ResetFailed: 4
        })
        assert.strictEqual((yield* run(["show", db, "Errored"])).code, 0)
      }),
    slow
  )

  it.effect("cancels queries, and records who asked", () =>
    Effect.gen(function*() {
      const db = yield* oneInEachState
      const ended = yield* run(["cancel", db, "Executing", "Queued", "Queued", "--by", "ada", "--note", "wrong year"])
      assert.deepStrictEqual(ended, {
        code: 0,
        stdout: `Cancelled ${db}/Executing\nCancelled ${db}/Queued\n`,
        stderr: ""
      })
      const store = yield* RedisStore.RedisStore
      const { state } = yield* store.read(keyOf(db, "Executing"))
      assert.deepStrictEqual(
        state,
        QueryState.make("Cancelled", { reason: Reason.requested({ by: "ada", note: "wrong year" }) })
      )
    }))

  it.effect("leaves a query alone whose state refuses the event, and says so", () =>
    Effect.gen(function*() {
      const db = yield* oneInEachState
      const ended = yield* run(["cancel", db, "Completed", "Queued"])
      assert.deepStrictEqual(ended, {
        code: 2,
        stdout: `Cancelled ${db}/Queued\n`,
        stderr:
          `Cancel is refused for query ${db}/Completed, which is ready: Cancel takes a query that is Queued or Executing\n`
      })
    }))

  it.effect("fails when an outcome is unknown, and still handles the other queries", () =>
    Effect.gen(function*() {
      const db = yield* freshDb
      yield* driveTo(keyOf(db, "good"), "Errored")
      yield* withAdmin((admin) => admin.set(`query-state:{${encodeURIComponent(db)}:odd}`, "no record"))
      const { code, stderr, stdout } = yield* run(["reset", db, "odd", "good", "never moved"])
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: `Reset ${db}/good\n` })
      assert.match(stderr, /holds another type of value.*\nReset is refused for query .*never moved/)
    }))

  it.effect("resets all queries in given states", () =>
    Effect.gen(function*() {
      const db = yield* oneInEachState
      const { code, stdout } = yield* run(["reset", db, "--state", "Errored", "--state", "ResetFailed"])
      assert.deepStrictEqual(
        { code, lines: linesOf(stdout).toSorted() },
        { code: 0, lines: [`Reset ${db}/Errored`, `Reset ${db}/ResetFailed`] }
      )
      assert.deepStrictEqual(
        yield* statesIn(db),
        QueryState.tags.map((tag) => tag === "Errored" || tag === "ResetFailed" ? "Known" : tag)
      )
      assert.deepStrictEqual(yield* run(["reset", db, "--state", "Errored"]), { code: 0, stdout: "", stderr: "" })
    }))

  it.effect.each(["cancel", "reset"])(
    "shows what %s would do, and changes nothing",
    (command) =>
      Effect.gen(function*() {
        const db = yield* oneInEachState
        const event = command === "cancel" ? "Cancel" : "Reset"
        const { code, stderr, stdout } = yield* run([command, db, ...QueryState.tags, "--dry-run"])
        assert.strictEqual(code, 2)
        assert.deepStrictEqual(
          linesOf(stdout),
          QueryState.tags.filter((tag) => Transition.next(tag, event) !== undefined)
            .map((tag) => `Would ${command} ${db}/${tag}`)
        )
        assert.strictEqual(
          linesOf(stderr).length,
          QueryState.tags.filter((tag) => Transition.next(tag, event) === undefined).length
        )
        assert.deepStrictEqual(yield* statesIn(db), QueryState.tags)
      })
  )

  it.effect("prints the diagram of the lifecycle without a Redis", () =>
    Effect.gen(function*() {
      const ended = yield* run(["diagram"], { REDIS_URL: "" })
      assert.deepStrictEqual(ended, { code: 0, stdout: `${Transition.toMermaid()}\n`, stderr: "" })
    }))

  it.effect("prints the version of the package", () =>
    Effect.gen(function*() {
      const { version } = JSON.parse(readFileSync("package.json", "utf8"))
      assert.deepStrictEqual(yield* run(["--version"]), {
        code: 0,
        stdout: `effect-query-state v${version}\n`,
        stderr: ""
      })
    }))

  it.effect.each<[what: string, args: ReadonlyArray<string>, told: string]>([
    ["an unknown command", ["lst", "db"], "Unknown subcommand"],
    ["an invalid database", ["list", ""], "Invalid value for argument <db>"],
    ["an unknown state", ["list", "db", "--state", "Done"], `"Known" | "Queued"`],
    ["neither ids nor a state", ["cancel", "db"], "Give either ids of queries or --state"],
    ["ids and a state", ["reset", "db", "q", "--state", "Errored"], "Give either ids of queries or --state"],
    ["an interval of nothing", ["watch", "db", "--interval", "0"], "Expected at least 0.1 seconds"]
  ])("refuses %s, and writes only to standard error", ([, args, told]) =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* run(args)
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.include(stderr, told)
      assert.match(stderr, /^See effect-query-state.* --help$/m)
    }))

  it.effect("asks for an address when it has none", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* run(["list", "db"], { REDIS_URL: "" })
      assert.deepStrictEqual({ code, stderr }, {
        code: 1,
        stderr: "No Redis is named. Set REDIS_URL, as in REDIS_URL=redis://localhost:6379, or give --url\n"
          + "See effect-query-state list --help\n"
      })
    }))

  it.effect.each([["list", "db"], ["watch", "db"], ["diagram"], ["--help"]])(
    "says why it ends where its output cannot be written: %s %s",
    (...args) =>
      Effect.gen(function*() {
        yield* driveTo(keyOf("db", "on a full disk"), "Queued")
        const { code, stderr } = yield* run(args.filter((arg) => typeof arg === "string"), {}, "/dev/full")
        assert.strictEqual(code, 1)
        assert.match(stderr, /^The output could not be written: ENOSPC.*no space left on device.*\n$/)
      })
  )

  it.effect("says so where a database has no query, and where a query has no record", () =>
    Effect.gen(function*() {
      const db = yield* freshDb
      const list = yield* run(["list", db])
      const show = yield* run(["show", db, "query", "--json"])
      const none = yield* run(["list", yield* oneInEachState, "--state", "Known"])
      assert.deepStrictEqual([list.code, show.code, none.code], [0, 0, 0])
      assert.strictEqual(list.stdout, "")
      assert.strictEqual(
        list.stderr,
        `The database ${db} has no readable record. Check its name, which "databases" lists, --prefix and the number `
          + "of the Redis database\n"
      )
      assert.strictEqual(show.stderr, `Query ${db}/query has no record: it never ran, or was reset\n`)
      assert.deepStrictEqual([none.stdout, none.stderr], ["", ""])
    }))

  it.effect("finds all servers of a cluster from the IPv6 address of any one of them", (context) =>
    Effect.gen(function*() {
      const hasIPv6 = Object.values(networkInterfaces()).flat().some((one) => one?.address === "::1")
      if (!hasIPv6) return context.skip("This machine has no IPv6")
      const { primaries } = yield* RedisCluster.acquire(2, "::1")
      const db = yield* freshDb
      const queries = Array.from({ length: 10 }, (_, index) => `query ${index}`)
      yield* Effect.forEach(queries, (query) => driveTo(keyOf(db, query), "Queued")).pipe(
        Effect.provide(RedisStoreLive.layerCluster({ nodes: primaries.map(({ server }) => server) }))
      )
      for (const { server } of primaries) {
        assert.match(server.url, /^redis:\/\/\[::1\]:\d+$/)
        const { code, stderr, stdout } = yield* run(["list", db, "--cluster"], { REDIS_URL: server.url })
        assert.deepStrictEqual({ code, stderr, count: linesOf(stdout).length }, { code: 0, stderr: "", count: 10 })
      }
    }))

  const secret = "s3cr3t-s3cr3t"

  it.effect("never prints the credentials in its address", () =>
    Effect.gen(function*() {
      const { host, port, stop, url } = yield* RedisServer.acquire()
      const withSecret = `redis://${secret}:${secret}@${host}:${port}`
      const environment = { REDIS_URL: withSecret }
      const wrong = [
        yield* run(["list", "db"], environment),
        yield* run(["watch", "db"], environment),
        yield* run(["list", "db", "--url", withSecret]),
        yield* run(["list", "db", "--url", withSecret, "--url", withSecret]),
        yield* run(["list", "db", "--uri", withSecret]),
        yield* run(["list", "db", withSecret]),
        yield* run(["list", "db", "--interval", withSecret]),
        yield* run(["watch", "db", "--interval", withSecret]),
        yield* run(["list", "db", "--url", `http://${secret}@${host}`]),
        yield* run(["list", "db", "--url", `redis://${secret}@${host}:port`])
      ]
      const fine = yield* run(["list", "db", "--url", url])
      yield* stop
      const gone = yield* run(["cancel", "db", "query"], environment)
      for (const { code, stderr, stdout } of [...wrong, gone]) {
        assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
        assert.notInclude(stderr, secret)
        assert.notStrictEqual(stderr, "")
      }
      assert.deepStrictEqual([fine.code, fine.stdout], [0, ""])
    }), slow)

  it.effect("reads under another prefix", () =>
    Effect.gen(function*() {
      const db = yield* oneInEachState
      const { code, stdout } = yield* run(["list", db, "--prefix", "other"])
      assert.deepStrictEqual([code, stdout], [0, ""])
    }))

  it.effect("reads the queries that FlowMachine shares", () =>
    Effect.gen(function*() {
      const db = (yield* freshDb).replaceAll(/[^a-z0-9]/g, "-")
      yield* withAdmin((admin) => admin.set(`finist:${db}:shared-state`, "executing"))
      const ended = yield* run(["show", db, "shared", "--flowmachine", "--exit-status"])
      assert.strictEqual(ended.code, 3)
      assert.include(ended.stdout, "Executing")
    }))

  it.effect("finds all servers of a cluster from any one of them", () =>
    Effect.gen(function*() {
      const [{ server } = assert.fail("a cluster has servers")] = (yield* RedisCluster.acquire()).primaries
      const db = yield* freshDb
      const queries = Array.from({ length: 10 }, (_, index) => `query ${index}`)
      yield* Effect.forEach(queries, (query) => driveTo(keyOf(db, query), "Queued")).pipe(
        Effect.provide(RedisStoreLive.layerCluster({ nodes: [server] }))
      )
      const { code, stdout } = yield* run(["cancel", db, "--state", "Queued", "--cluster"], { REDIS_URL: server.url })
      assert.strictEqual(code, 0)
      assert.isTrue(queries.every((query) => stdout.includes(query)))
    }))

  it.effect("shows the history of a query, its own transitions included", () =>
    Effect.gen(function*() {
      const key = keyOf(yield* freshDb, "remembered")
      yield* Effect.provide(
        driveTo(key, "Executing", { holder: "worker-3", lease: "1 minute" }),
        RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), history: { length: 10 } })
      )
      yield* run(["cancel", key.db, key.query, "--by", "ada", "--history", "10"])
      const { code, stderr, stdout } = yield* run(["history", key.db, key.query])
      assert.deepStrictEqual(
        { code, stderr, lines: linesOf(stdout).map((line) => line.slice(line.indexOf("Z") + 1)) },
        {
          code: 0,
          stderr: "",
          lines: [
            "  Queue        Known -> Queued",
            "  Execute      Queued -> Executing (by worker-3)",
            "  Cancel       Executing -> Cancelled (by worker-3): requested by ada"
          ]
        }
      )
      const entries = yield* RedisStore.RedisStore.use((store) => store.history(key))
      const { stdout: json } = yield* run(["history", key.db, key.query, "--json"])
      assert.deepStrictEqual(linesOf(json).map((line) => decodeEntry(line)), entries)
    }))

  it.effect("says so when there is no history", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* run(["history", yield* freshDb, "query"])
      assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: "" })
      assert.include(stderr, "There is no history")
    }))

  it.effect("without a terminal, prints pending queries and changes as lines", () =>
    Effect.scoped(Effect.gen(function*() {
      const db = yield* oneInEachState
      const start = yield* Cli
      const { ended, printed, signal } = yield* start(["watch", db, "--interval", "0.1"])
      for (const tag of ["Queued", "Executing", "Resetting"]) yield* printed(`  ${tag}\n`)
      const store = yield* RedisStore.RedisStore
      yield* store.compareAndSet(keyOf(db, "Executing"), { event: "Finish" })
      yield* printed("Completed")
      yield* signal("SIGINT")
      const { code, stderr, stdout } = yield* ended
      assert.deepStrictEqual({ code, stderr }, { code: 130, stderr: "" })
      assert.deepStrictEqual(
        linesOf(stdout).map((line) => line.replace(/ +\S+Z +/, " ")).toSorted(),
        ["Completed Executing", "Executing Executing", "Queued Queued", "Resetting Resetting"]
      )
    })))

  it.effect("reports an outage, and continues after it", () =>
    Effect.scoped(Effect.gen(function*() {
      const server = yield* RedisServer.acquire()
      const enqueue = (query: string, url: string) =>
        Effect.provide(driveTo(keyOf("db", query), "Queued"), RedisStoreLive.layer({ url: Redacted.make(url) }))
      const start = yield* Cli
      yield* enqueue("before", server.url)
      const { ended, printed, signal } = yield* start(["watch", "db", "--interval", "0.1"], { REDIS_URL: server.url })
      yield* printed("before")
      yield* server.stop
      yield* printed("Could not list the queries of db: no connection to Redis")
      const again = yield* RedisServer.acquire({ port: server.port })
      yield* enqueue("after", again.url)
      yield* printed("after")
      yield* signal("SIGTERM")
      assert.strictEqual((yield* ended).code, 130)
    })))

  it.effect("is interrupted when its terminal hangs up", () =>
    Effect.scoped(Effect.gen(function*() {
      const key = keyOf(yield* freshDb, "first")
      yield* driveTo(key, "Queued")
      const start = yield* Cli
      const { ended, printed, signal } = yield* start(["watch", key.db])
      yield* printed("first")
      yield* signal("SIGHUP")
      assert.strictEqual((yield* ended).code, 130)
    })))

  it.effect("ends when its output is closed", () =>
    Effect.scoped(Effect.gen(function*() {
      const key = keyOf(yield* freshDb, "first")
      yield* driveTo(key, "Queued")
      const start = yield* Cli
      const { ended, printed, turnAway } = yield* start(["watch", key.db, "--interval", "0.1"])
      yield* printed("first")
      yield* turnAway
      const store = yield* RedisStore.RedisStore
      yield* store.compareAndSet(key, { event: "Execute" })
      assert.strictEqual((yield* ended).stderr, "")
    })))
})
