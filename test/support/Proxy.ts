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
  /** Breaks connections on the side of the server, without closing them for the clients. */
  readonly halfOpen: (which?: Which) => Effect.Effect<void>
  /** Reads nothing more from the server, so that what it sends piles up there. */
  readonly pause: (which?: Which) => Effect.Effect<void>
  /**
   * Forwards nothing from now on, in either direction, on new connections too. What comes is lost, and so is a connection
   * that lost something, once everything passes again.
   */
  readonly blackHole: Effect.Effect<void>
  /** Forwards all that comes from now on so much later, in both directions, and in its order. */
  readonly delay: (duration: Duration.Input) => Effect.Effect<void>
  /** Forwards all that comes from now on at no more than so many bytes a second, in each direction of a connection. */
  readonly throttle: (bytesPerSecond: number) => Effect.Effect<void>
  /** Answers the next script that a client calls with a line of its own, in the place of the server. */
  readonly answer: (line: string) => Effect.Effect<void>
  /** Connects clients that come from now on to another server. */
  readonly redirect: (to: Address) => Effect.Effect<void>
  /** Holds back, from now on, what a client sends that contains a text, and all that it sends after that. */
  readonly hold: (text: string) => Effect.Effect<void>
  /** Whether something is held back. */
  readonly holds: Effect.Effect<boolean>
  /**
   * Closes, for the clients, the connections on which something is held back, and holds back nothing more. Once everything
   * passes again, the server still gets what was held: TCP delivers what a closed socket had sent.
   */
  readonly abandon: Effect.Effect<void>
  /** Refuses new connections. */
  readonly refuse: Effect.Effect<void>
  /** Forwards everything again, what was held back or delayed first, and accepts connections. What was cut stays cut. */
  readonly pass: Effect.Effect<void>
}

const host = "127.0.0.1"

export interface Address {
  readonly host: string
  readonly port: number
}

/** One direction of a connection: what comes later is never forwarded sooner. */
class Pipe {
  private readonly waiting: Array<{ readonly data: Buffer; readonly atMillis: number }> = []
  private lastMillis = 0
  private timer: NodeJS.Timeout | undefined
  private readonly forward: (data: Buffer) => void

  constructor(forward: (data: Buffer) => void) {
    this.forward = forward
  }

  write(data: Buffer, delayMillis: number, bytesPerMilli: number): void {
    const now = performance.now()
    const takes = data.length / bytesPerMilli
    const atMillis = Math.max(now + delayMillis, this.lastMillis) + takes
    this.lastMillis = atMillis
    if (this.waiting.length === 0 && atMillis <= now) return this.forward(data)
    this.waiting.push({ data, atMillis })
    if (this.waiting.length === 1) this.schedule()
  }

  /** Forwards what waits now. */
  flush(): void {
    clearTimeout(this.timer)
    this.lastMillis = 0
    for (const { data } of this.waiting.splice(0)) this.forward(data)
  }

  private schedule(): void {
    const [first] = this.waiting
    if (first === undefined) return
    this.timer = setTimeout(() => {
      this.waiting.shift()
      this.forward(first.data)
      this.schedule()
    }, first.atMillis - performance.now()).unref()
  }
}

interface Link {
  readonly client: Net.Socket
  readonly server: Net.Socket
  readonly toClient: Pipe
  readonly toServer: Pipe
  isSubscriber: boolean
  isDoomed: boolean
  isForgotten: boolean
  hasLost: boolean
  held: Array<Buffer> | undefined
}

export const acquire = Effect.fnUntraced(function*(
  server: Address
): Effect.fn.Return<Proxy, never, Scope.Scope> {
  const links = new Set<Link>()
  let to: Address = server
  let isDooming = false
  let isBlackHole = false
  let delayMillis = 0
  let bytesPerMilli = Number.POSITIVE_INFINITY
  let heldText: string | undefined
  let ownAnswer: string | undefined

  const fromClient = (link: Link, data: Buffer) => {
    if (/\r\ns?subscribe\r\n/i.test(data.toString("latin1"))) link.isSubscriber = true
    if (isBlackHole) {
      link.hasLost = true
      return
    }
    if (heldText !== undefined && data.includes(heldText)) link.held ??= []
    if (link.held !== undefined) {
      link.held.push(data)
      return
    }
    if (ownAnswer !== undefined && /\r\nevalsha\r\n/i.test(data.toString("latin1"))) {
      link.client.write(`${ownAnswer}\r\n`)
      ownAnswer = undefined
      return
    }
    if (isDooming) {
      isDooming = false
      link.isDoomed = true
    }
    link.toServer.write(data, delayMillis, bytesPerMilli)
  }

  const fromServer = (link: Link, data: Buffer) => {
    if (link.isDoomed) link.client.destroy()
    else if (isBlackHole) link.hasLost = true
    else link.toClient.write(data, delayMillis, bytesPerMilli)
  }

  const accept = (client: Net.Socket) => {
    const server = Net.connect({ host: to.host, port: to.port, noDelay: true })
    const link: Link = {
      client,
      server,
      toClient: new Pipe((data) => client.write(data)),
      toServer: new Pipe((data) => server.write(data)),
      isSubscriber: false,
      isDoomed: false,
      isForgotten: false,
      hasLost: false,
      held: undefined
    }
    links.add(link)
    client.setNoDelay(true).on("data", (data) => fromClient(link, data)).on("error", () => {}).on("close", () => {
      if (link.held !== undefined && link.isForgotten) return
      links.delete(link)
      server.destroy()
    })
    server.on("data", (data) => fromServer(link, data)).on("error", () => {}).on("close", () => {
      if (client.destroyed) links.delete(link)
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
    throttle: (bytesPerSecond) =>
      Effect.sync(() => {
        bytesPerMilli = bytesPerSecond / 1000
      }),
    answer: (line) =>
      Effect.sync(() => {
        ownAnswer = line
      }),
    redirect: (other) =>
      Effect.sync(() => {
        to = other
      }),
    hold: (text) =>
      Effect.sync(() => {
        heldText = text
      }),
    holds: Effect.sync(() => Array.from(links).some(({ held }) => held !== undefined)),
    abandon: Effect.sync(() => {
      heldText = undefined
      for (const link of links) {
        if (link.held === undefined) continue
        link.isForgotten = true
        link.client.destroy()
      }
    }),
    refuse: Effect.sync(() => {
      listener.close()
    }),
    pass: Effect.gen(function*() {
      isDooming = isBlackHole = false
      delayMillis = 0
      bytesPerMilli = Number.POSITIVE_INFINITY
      heldText = ownAnswer = undefined
      for (const link of links) {
        if (link.hasLost) link.client.destroy()
        link.toServer.flush()
        link.toClient.flush()
        link.held?.forEach((data) => link.server.write(data))
        link.held = undefined
        if (link.client.destroyed) link.server.end()
        link.server.resume()
      }
      if (!listener.listening) yield* listen(port)
    })
  }
})
