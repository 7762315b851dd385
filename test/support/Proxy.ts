/**
 * A TCP proxy between clients and a server, on a free port of 127.0.0.1, that breaks their connections on demand.
 */
import { Duration, Effect, type Scope } from "effect"
import * as Net from "node:net"

/** Connections on which a client has subscribed, the others, or all. */
export type Which = "notifications" | "commands" | "all"

export interface Proxy {
  readonly host: string
  readonly port: number
  readonly url: string
  /** How many connections of clients are open. */
  readonly open: (which?: Which) => number
  /** Breaks connections now. */
  readonly cut: (which?: Which) => Effect.Effect<void>
  /** Breaks the connection of the next request, when that has reached the server and before its reply is forwarded. */
  readonly cutBeforeReply: Effect.Effect<void>
  /** Breaks connections on the side of the server, and does not tell the clients. */
  readonly halfOpen: (which?: Which) => Effect.Effect<void>
  /** Reads nothing more from the server, so that what it sends piles up there. */
  readonly pause: (which?: Which) => Effect.Effect<void>
  /** Forwards nothing from now on, in either direction, on new connections too. What comes is lost. */
  readonly blackHole: Effect.Effect<void>
  /** Forwards all that comes from now on so much later, in both directions. */
  readonly delay: (duration: Duration.Input) => Effect.Effect<void>
  /** Holds back, from now on, what a client sends that contains a text, and all that it sends after that. */
  readonly hold: (text: string) => Effect.Effect<void>
  /** Answers the next request that contains a text with an error, and does not forward it. */
  readonly answer: (text: string, error: string) => Effect.Effect<void>
  /** Refuses new connections. */
  readonly refuse: Effect.Effect<void>
  /** Forwards everything again, what was held back first, and accepts connections. What was cut stays cut. */
  readonly pass: Effect.Effect<void>
}

const host = "127.0.0.1"

interface Link {
  readonly client: Net.Socket
  readonly server: Net.Socket
  isSubscriber: boolean
  isDoomed: boolean
  isForgotten: boolean
  held: Array<Buffer> | undefined
}

export const acquire = Effect.fnUntraced(function*(
  to: { readonly host: string; readonly port: number }
): Effect.fn.Return<Proxy, never, Scope.Scope> {
  const links = new Set<Link>()
  let isDooming = false
  let isBlackHole = false
  let delayMillis = 0
  let heldText: string | undefined
  let answered: { readonly text: string; readonly error: string } | undefined

  const later = (forward: () => void) => {
    if (delayMillis === 0) forward()
    else setTimeout(forward, delayMillis)
  }

  const fromClient = (link: Link, data: Buffer) => {
    if (/\r\ns?subscribe\r\n/i.test(data.toString("latin1"))) link.isSubscriber = true
    if (isBlackHole) return
    if (answered !== undefined && data.includes(answered.text)) {
      link.client.write(`-${answered.error}\r\n`)
      answered = undefined
      return
    }
    if (heldText !== undefined && data.includes(heldText)) link.held ??= []
    if (link.held !== undefined) {
      link.held.push(data)
      return
    }
    if (isDooming) {
      isDooming = false
      link.isDoomed = true
    }
    later(() => link.server.write(data))
  }

  const fromServer = (link: Link, data: Buffer) => {
    if (link.isDoomed) link.client.destroy()
    else if (!isBlackHole) later(() => link.client.write(data))
  }

  const accept = (client: Net.Socket) => {
    const server = Net.connect({ host: to.host, port: to.port, noDelay: true })
    const link: Link = { client, server, isSubscriber: false, isDoomed: false, isForgotten: false, held: undefined }
    links.add(link)
    client.setNoDelay(true).on("data", (data) => fromClient(link, data)).on("error", () => {}).on("close", () => {
      links.delete(link)
      server.destroy()
    })
    server.on("data", (data) => fromServer(link, data)).on("error", () => {}).on("close", () => {
      if (!link.isForgotten) client.destroy()
    })
  }

  const listener = yield* Effect.acquireRelease(
    Effect.sync(() => Net.createServer(accept)),
    (listener) =>
      Effect.callback<void>((resume) => {
        listener.close(() => resume(Effect.void))
        for (const { client } of links) client.destroy()
      })
  )
  const listen = (port: number) =>
    Effect.callback<void>((resume) => {
      listener.listen(port, host, () => resume(Effect.void))
    })
  yield* listen(0)
  const { port } = listener.address() as Net.AddressInfo

  const selected = (which: Which) =>
    Array.from(links).filter(({ isSubscriber }) => which === "all" || isSubscriber === (which === "notifications"))
  const each = (f: (link: Link) => void) => (which: Which = "all") => Effect.sync(() => selected(which).forEach(f))

  return {
    host,
    port,
    url: `redis://${host}:${port}`,
    open: (which = "all") => selected(which).length,
    cut: each(({ client }) => client.destroy()),
    cutBeforeReply: Effect.sync(() => {
      isDooming = true
    }),
    halfOpen: each((link) => {
      link.isForgotten = true
      link.server.destroy()
    }),
    pause: each(({ server }) => server.pause()),
    blackHole: Effect.sync(() => {
      isBlackHole = true
    }),
    delay: (duration) =>
      Effect.sync(() => {
        delayMillis = Duration.toMillis(Duration.fromInputUnsafe(duration))
      }),
    hold: (text) =>
      Effect.sync(() => {
        heldText = text
      }),
    answer: (text, error) =>
      Effect.sync(() => {
        answered = { text, error }
      }),
    refuse: Effect.sync(() => {
      listener.close()
    }),
    pass: Effect.gen(function*() {
      isDooming = isBlackHole = false
      delayMillis = 0
      heldText = answered = undefined
      for (const link of links) {
        link.held?.forEach((data) => link.server.write(data))
        link.held = undefined
        link.server.resume()
      }
      if (!listener.listening) yield* listen(port)
    })
  }
})
