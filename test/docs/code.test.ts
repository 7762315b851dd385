import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Bundle from "../support/bundle.ts"
import { bin, execute } from "../support/execute.ts"
import { blocks, filesIn, pages } from "../support/markdown.ts"
import * as RedisServer from "../support/RedisServer.ts"

/** A piece of TypeScript out of a page or a doc comment, and what the page says it prints. */
interface Code {
  readonly name: string
  readonly text: string
  readonly prints: string | undefined
  readonly runs: "by itself" | "by vitest"
}

const codeIn = (file: string): ReadonlyArray<Code> => {
  const all = blocks(Fs.readFileSync(file, "utf8"))
  return all.flatMap(({ language, line, text }, index) => {
    // The command that runs it may stand in between.
    const next = all.slice(index + 1).find((block) => block.language !== "sh")
    const prints = next?.language === "text" ? next.text : undefined
    const runs = text.includes(`from "@effect/vitest"`) ? "by vitest" : "by itself"
    return language === "ts" ? [{ name: `${file.replaceAll("/", "-")}-${line}.ts`, text, prints, runs }] : []
  })
}

// That test takes the steps of the page one after the other.
const elsewhere = { "docs/getting-started.md": "gettingStarted.test.ts" }

const programs = pages.filter((page) => !(page in elsewhere)).flatMap(codeIn)
const examples = [...Object.keys(elsewhere), ...filesIn("src", ".ts")].flatMap(codeIn)

/** A folder in which code is compiled and run with the settings of the project. */
class Folder extends Context.Service<Folder, string>()("test/docs/Folder") {
  static readonly layer = Layer.effect(
    Folder,
    Effect.gen(function*() {
      const folder = yield* Bundle.folder("code")
      Fs.writeFileSync(Path.join(folder, "package.json"), `{ "type": "module" }`)
      Fs.writeFileSync(
        Path.join(folder, "tsconfig.json"),
        JSON.stringify({
          extends: Path.resolve("tsconfig.json"),
          include: ["*.ts"],
          // An example may end with what a reader goes on with.
          compilerOptions: { rootDir: "/", noUnusedLocals: false }
        })
      )
      Fs.writeFileSync(
        Path.join(folder, "vitest.config.js"),
        `export default { cacheDir: ".vite", resolve: { tsconfigPaths: true }, test: { include: ["*.ts"] } }`
      )
      for (const { name, text } of [...programs, ...examples]) Fs.writeFileSync(Path.join(folder, name), text)
      const alone = programs.filter(({ runs }) => runs === "by itself")
      yield* Bundle.bundle(alone.map(({ name }) => Path.join(folder, name)), folder)
      return folder
    })
  )
}

it.layer(Folder.layer, { excludeTestServices: true, timeout: "60 seconds" })("Code in the documentation", (it) => {
  it.effect("compiles, as strictly as the library", () =>
    Effect.gen(function*() {
      const folder = yield* Folder
      const { output: compiler } = yield* execute(bin("effect-tsgo"), ["get-exe-path"], { cwd: folder })
      assert.deepStrictEqual(yield* execute(compiler, [], { cwd: folder }), { code: 0, output: "" })
    }))

  it.effect.each(programs)(
    "$name runs, and prints what the page says",
    ({ name, prints, runs }) =>
      Effect.gen(function*() {
        const cwd = yield* Folder
        // Programs run at the same time, and some use the same keys.
        const { url } = yield* RedisServer.acquire()
        const [command, args] = runs === "by itself"
          ? [process.execPath, [`${Path.parse(name).name}.mjs`]] as const
          : [bin("vitest"), ["run", name]] as const
        const { code, output } = yield* execute(command, args, { cwd, env: { REDIS_URL: url } })
        assert.deepStrictEqual({ code, output }, { code: 0, output: prints ?? output })
      }),
    { concurrent: true }
  )
})
