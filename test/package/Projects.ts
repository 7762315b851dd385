/**
 * Empty projects into which the packed package was installed, and programs in them.
 */
import { assert } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import manifest from "../../package.json" with { type: "json" }
import { execute } from "../support/execute.ts"

// The variables that `npm run` sets must not reach the `npm` of another project.
const env = Object.fromEntries(
  Object.keys(process.env).filter((name) => name.startsWith("npm_")).map((name) => [name, undefined])
)

/** Runs a program in a project, which has to succeed, and answers what it printed. */
export const run = Effect.fnUntraced(function*(project: string, command: string, args: ReadonlyArray<string>) {
  const { code, output } = yield* execute(command, args, { cwd: project, env, timeout: 120_000 })
  assert.strictEqual(code, 0, `${command} ${args.join(" ")}\n${output}`)
  return output
})

/** Where npm caches a program of a package after the first download. */
export const programOf = (spec: string, name: string): Effect.Effect<string> =>
  run(Os.tmpdir(), "npm", ["exec", "--silent", "--yes", "--prefer-offline", "--package", spec, "--", "which", name])

const modulesIn = (folder: string) =>
  Fs.readdirSync(Path.join("src", folder))
    .filter((file) => file.endsWith(".ts"))
    .map((file) => ({
      name: Path.basename(file, ".ts"),
      path: `${manifest.name}/${folder}/${Path.basename(file, ".ts")}`
    }))

const folders = ["domain", "services", "layers"]
const modules = folders.flatMap(modulesIn)
const internals = folders.flatMap((folder) => modulesIn(`${folder}/internal`))

const imports = (all: typeof modules) => all.map(({ name, path }) => `import * as ${name} from "${path}"`).join("\n")

const joined = Fs.readFileSync("test/package/joined.ts", "utf8")

const programs = {
  joined,

  // The same without the entry point, and so without what that imports.
  joinedByPath: joined.replace(
    /^import \{ (.*) \} from "effect-query-state"$/m,
    (_, names: string) => imports(modules.filter(({ name }) => names.split(", ").includes(name)))
  ),

  everyPath: `
import * as EntryPoint from "${manifest.name}"
import assert from "node:assert"
${imports(modules)}
assert.deepStrictEqual({ ...EntryPoint }, { ${modules.map(({ name }) => name).join(", ")} })
import.meta.resolve("${manifest.name}/package.json")`,

  internals: `
import assert from "node:assert"
for (const path of ${JSON.stringify(internals.map(({ path }) => path))}) {
  assert.throws(() => import.meta.resolve(path), { code: "ERR_PACKAGE_PATH_NOT_EXPORTED" }, path)
}`
}

/** The folders of the projects. */
export class Projects extends Context.Service<Projects, {
  readonly npm: string
  readonly pnpm: string
  readonly withoutIoredis: string
}>()("test/package/Projects") {
  static readonly layer = Layer.effect(
    Projects,
    Effect.gen(function*() {
      const root = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "query-state-package-"))),
        (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
      )
      yield* run(".", "npm", ["pack", "--pack-destination", root])
      const tarball = Path.join(root, `${manifest.name}-${manifest.version}.tgz`)

      const make = Effect.fnUntraced(function*(name: string, command: string, args: ReadonlyArray<string>) {
        const project = Path.join(root, name)
        Fs.mkdirSync(project)
        Fs.writeFileSync(Path.join(project, "package.json"), `{ "private": true, "type": "module" }`)
        for (const [program, text] of Object.entries(programs)) {
          for (const extension of ["js", "ts"]) Fs.writeFileSync(Path.join(project, `${program}.${extension}`), text)
        }
        yield* run(project, command, [
          ...args,
          "--prefer-offline",
          tarball,
          `effect@${manifest.peerDependencies.effect}`
        ])
        return project
      })
      const rest = [`ioredis@${manifest.peerDependencies.ioredis}`, "@types/node@20"]
      const npm = ["install", "--no-audit", "--no-fund"]
      const pnpm = yield* programOf("pnpm@12", "pnpm")
      return yield* Effect.all({
        npm: make("npm", "npm", [...npm, ...rest]),
        pnpm: make("pnpm", pnpm, ["add", ...rest]),
        withoutIoredis: make("without-ioredis", "npm", [...npm, "--omit=peer"])
      }, { concurrency: 2 })
    })
  )
}
