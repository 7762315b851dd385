/** How the inspector reads the address of a cluster. */
import { assert, it } from "@effect/vitest"
import { Option, Redacted } from "effect"
import { clusterAt } from "../../src/cli/connection.ts"

const at = (url: string) => Option.getOrUndefined(clusterAt(Redacted.make(url)))

it.each<[url: string, host: string, port: number]>([
  ["redis://[::1]:7000", "::1", 7000],
  ["redis://[fd00::2]", "fd00::2", 6379],
  ["redis://[::ffff:127.0.0.1]:7000", "::ffff:7f00:1", 7000],
  ["redis://127.0.0.1:7000", "127.0.0.1", 7000],
  ["redis://redis-1", "redis-1", 6379]
])("%s is a node of a cluster", (url, host, port) => {
  assert.deepStrictEqual(at(url), { nodes: [{ host, port }], cluster: { redisOptions: {} } })
})

it("the credentials and the TLS of an IPv6 address are those of all nodes", () => {
  assert.deepStrictEqual(at("rediss://app:p%40ss@[::1]:7000"), {
    nodes: [{ host: "::1", port: 7000 }],
    cluster: { redisOptions: { username: "app", password: "p@ss", tls: {} } }
  })
})

it.each(["::1:7000", "[::1]:7000", "redis://::1:7000", "redis://[::1", "redis://[::1]:7000,[::1]:7001", ""])(
  "%s is no address, and the layer for one server says why",
  (url) => assert.isUndefined(at(url))
)
