/** Servers on 127.0.0.1 that are not Redis, to connect to in vain. */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

export interface FakeServer {
  /** Host and port, as they stand in a URL. */
  readonly address: string
  /** How many connections there have been. */
  readonly accepted: () => number
}

const host = "127.0.0.1"

/** Listens on a free port, and serves each connection with `serve`. */
export const acquire = (serve: (socket: Net.Socket) => void): Effect.Effect<FakeServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const sockets = new Set<Net.Socket>()
    const server = yield* Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        // A connection that the other side ends stays half open, unless it is served otherwise.
        const server = Net.createServer({ allowHalfOpen: true }, (socket) => {
          sockets.add(socket)
          socket.on("error", () => {})
          serve(socket)
        })
        server.listen(0, host, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    return { address: `${host}:${(server.address() as Net.AddressInfo).port}`, accepted: () => sockets.size }
  })

/** Accepts connections, and never answers or reads. */
export const frozen = acquire(() => {})

/** Answers the first request with a text, and closes the connection. */
export const answering = (text: string) => acquire((socket) => socket.once("data", () => socket.end(text)))

/** An address of a closed port. */
export const nobody = Effect.scoped(Effect.map(frozen, ({ address }) => address))
