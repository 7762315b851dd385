import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import * as Tls from "node:tls"
import * as FakeServers from "../support/FakeServers.ts"
import { errorFields } from "../support/queries.ts"

/** Speaks TLS, and has no certificate to show: it refuses every handshake with an alert. */
const refusing = FakeServers.acquire((socket) => {
  new Tls.TLSSocket(socket, { isServer: true }).on("error", () => {})
})

it.live.each<[scheme: string, why: string]>([
  ["rediss", "a server that refuses the handshake"],
  ["redis", "a server that speaks nothing but TLS"]
])("%s:// to %s fails after one attempt", ([scheme]) =>
  Effect.gen(function*() {
    const { accepted, address } = yield* refusing
    const url = Redacted.make(`${scheme}://ada:s3cret@${address}`)
    const error = yield* Layer.build(RedisStoreLive.layer({ url, connectTimeout: "5 seconds" })).pipe(
      Effect.scoped,
      Effect.flip
    )
    const { _tag, ...rest } = errorFields(error)
    assert.include(["ConnectionLost", "UnexpectedReply"], _tag)
    assert.deepStrictEqual(rest, { operation: "connect", key: undefined })
    assert.notInclude(error.message, "s3cret")
    assert.strictEqual(accepted(), 1)
  }))
