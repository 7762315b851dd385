/** Does what the page says, in the order in which it says so. */
import { assert, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { inject } from "vitest"
import * as Bundle from "../support/bundle.ts"
import { blocks } from "../support/markdown.ts"

const all = blocks(Fs.readFileSync("docs/getting-started.md", "utf8"))
const textOf = (wanted: string) => all.filter(({ language }) => language === wanted).map(({ text }) => text)

// The first line of a program is its name.
const programs = new Map(textOf("ts").map((text) => [/^\/\/ (\S+\.ts)\n/.exec(text)?.[1] ?? "", text]))
const [config = ""] = textOf("json")
const outputs = textOf("text")

/** The programs in a folder. What takes twenty seconds there goes on here until there is a file named `go`. */
const acquireFolder = Effect.gen(function*() {
  const folder = yield* Bundle.folder("start")
  Fs.writeFileSync(Path.join(folder, "package.json"), `{ "type": "module" }`)
  Fs.writeFileSync(Path.join(folder, "tsconfig.json"), config)
  const { compilerOptions } = JSON.parse(config) as { compilerOptions: Record<string, unknown> }
  // The package is here as its sources, and not as what is installed.
  const paths = { "effect-query-state": [Path.resolve("src/index.ts")] }
  const fromSources = { paths, allowImportingTsExtensions: true, lib: ["ES2023", "ES2024.String"] }
  const settings = Path.join(folder, "tsconfig.test.json")
  Fs.writeFileSync(settings, JSON.stringify({ compilerOptions: { ...compilerOptions, ...fromSources } }))
  for (const [name, text] of programs) {
    const waiting = `Effect.repeat(Effect.sleep("10 millis"), { until: () => existsSync("go") })`
    const patched = text.replace(`Effect.sleep("20 seconds")`, waiting)
    const imports = patched === text ? "" : `import { existsSync } from "node:fs"\n`
    Fs.writeFileSync(Path.join(folder, name), `${imports}${patched}`)
  }
  yield* Bundle.bundle(Array.from(programs.keys(), (name) => Path.join(folder, name)), folder, settings)
  return folder
})

interface Running {
  readonly child: ChildProcess
  /** What it has printed so far. */
  readonly output: () => string
}

const run = (folder: string, command: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync((): Running => {
      const env = { ...process.env, REDIS_URL: inject("redisUrl"), NO_COLOR: "1" }
      const child = spawn(command, args, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] })
      let output = ""
      child.stdout.on("data", (data) => output += String(data))
      child.stderr.on("data", (data) => output += String(data))
      return { child, output: () => output.trimEnd() }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

const until = (isDone: () => boolean) =>
  Effect.repeat(Effect.sync(isDone), { schedule: Schedule.spaced("10 millis"), until: (done) => done })

const ended = ({ child, output }: Running) =>
  Effect.map(until(() => child.exitCode !== null || child.signalCode !== null), () => output())

const prints = (running: Running, text: string) => until(() => running.output().includes(text))

it.live("the steps of the page print what it shows", () =>
  Effect.gen(function*() {
    const folder = yield* acquireFolder
    const start = (name: string) => run(folder, process.execPath, `${Path.parse(name).name}.mjs`)
    const go = Path.join(folder, "go")
    assert.deepStrictEqual([...programs.keys()], ["one.ts", "totals.ts", "reset.ts"])

    const compiler = yield* run(folder, Path.resolve("node_modules/.bin/tsc"), "-p", "tsconfig.test.json")
    assert.deepStrictEqual(yield* ended(compiler), "")

    const seen = [yield* Effect.flatMap(start("one.ts"), ended)]

    const first = yield* start("totals.ts")
    yield* prints(first, "computing")
    const second = yield* start("totals.ts")
    yield* prints(second, "running")
    Fs.writeFileSync(go, "")
    seen.push(yield* ended(first), yield* ended(second), yield* Effect.flatMap(start("totals.ts"), ended))

    Fs.rmSync(go)
    seen.push(yield* Effect.flatMap(start("reset.ts"), ended))

    const dying = yield* start("totals.ts")
    yield* prints(dying, "computing")
    const heir = yield* start("totals.ts")
    yield* prints(heir, "running")
    dying.child.kill("SIGINT")
    yield* prints(heir, "computing")
    Fs.writeFileSync(go, "")
    seen.push(yield* ended(heir))

    assert.deepStrictEqual(seen, outputs)
  }), 120_000)
