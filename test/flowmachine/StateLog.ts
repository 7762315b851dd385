/** All writes to the states of a database that is shared with FlowMachine, in the order of the server. */
import { Deferred, Effect, Exit, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import * as Net from "node:net"
import * as Readline from "node:readline"
import type { RedisServer } from "../support/RedisServer.ts"

/** A state that was written; by the reference, if there is no version. */
export interface Entry {
  readonly state: string
  readonly version: number | undefined
}

export interface StateLog {
  /** The entries of each query so far, in their order. */
  readonly read: Effect.Effect<ReadonlyMap<string, ReadonlyArray<Entry>>>
}

const words = (line: string): ReadonlyArray<string> =>
  Array.from(line.matchAll(/"((?:[^"\\]|\\.)*)"/g), ([, word = ""]) => word)

/** Watches a server with MONITOR, which makes it slow. */
export const watch = Effect.fnUntraced(function*(
  { host, port }: RedisServer,
  db: string
): Effect.fn.Return<StateLog, never, Scope.Scope> {
  const entries = new Map<string, Array<Entry>>()
  const marks = new Map<string, Deferred.Deferred<void>>()
  const isWatching = Deferred.makeUnsafe<void>()
  // A script of this library writes its record right before the state, or the record alone.
  let written: { readonly query: string; readonly version: number } | undefined

  const start = `finist:${db}:`
  const queryOf = (key: string) => key.slice(key.indexOf(start) + start.length, -"-state".length)
  const onLine = (line: string) => {
    if (line.startsWith("+OK")) Deferred.doneUnsafe(isWatching, Exit.void)
    if (!line.includes(start) && !line.includes("mark-")) return
    const [command = "", key = "", ...rest] = words(line)
    if (command.toUpperCase() === "ECHO") {
      const mark = marks.get(key)
      if (mark !== undefined) Deferred.doneUnsafe(mark, Exit.void)
    } else if (command === "HSET" && key.startsWith("query-state:") && rest[0] === "s") {
      written = { query: queryOf(key), version: Number(rest[3]) }
    } else if (command.toUpperCase().startsWith("EVAL")) {
      written = undefined
    } else if (command === "SET" && key.startsWith(start)) {
      const query = queryOf(key)
      const entry = { state: rest[0] ?? "", version: written?.query === query ? written.version : undefined }
      written = undefined
      const before = entries.get(query)
      if (before === undefined) entries.set(query, [entry])
      else before.push(entry)
    }
  }

  const connect = Effect.acquireRelease(
    Effect.sync(() => {
      const socket = Net.connect(port, host)
      socket.on("error", () => {})
      return socket
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const monitor = yield* connect
  Readline.createInterface({ input: monitor }).on("line", onLine)
  monitor.write("MONITOR\r\n")
  yield* Deferred.await(isWatching)

  const marker = yield* connect
  return {
    read: Effect.gen(function*() {
      const name = `mark-${randomUUID()}`
      const mark = Deferred.makeUnsafe<void>()
      marks.set(name, mark)
      marker.write(`ECHO ${name}\r\n`)
      yield* Deferred.await(mark)
      return entries
    })
  }
})
