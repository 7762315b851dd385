import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { inject } from "vitest"
import { bin, execute } from "../support/execute.ts"
import { blocks } from "../support/markdown.ts"

/** A piece of TypeScript out of a page or a doc comment, and what the page says it prints. */
interface Code {
  readonly name: string
  readonly text: string
  readonly prints: string | undefined
}

const filesIn = (folder: string, extension: string) =>
  Fs.existsSync(folder)
    ? Fs.readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(extension))
      .map((file) => Path.join(folder, file))
    : []

const codeIn = (file: string): ReadonlyArray<Code> => {
  const all = blocks(Fs.readFileSync(file, "utf8"))
  return all.flatMap(({ language, line, text }, index) => {
    const next = all[index + 1]
    const prints = next?.language === "text" ? next.text : undefined
    return language === "ts" ? [{ name: `${file.replaceAll("/", "-")}-${line}.ts`, text, prints }] : []
  })
}

const programs = ["README.md", ...filesIn("docs", ".md")].flatMap(codeIn)
const examples = filesIn("src", ".ts").flatMap(codeIn)

/** A folder from which code is compiled and run as the project's own is. */
class Folder extends Context.Service<Folder, string>()("test/docs/Folder") {
  static readonly layer = Layer.effect(
    Folder,
    Effect.acquireRelease(
      Effect.sync(() => {
        const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "query-state-code-"))
        Fs.symlinkSync(Path.resolve("node_modules"), Path.join(folder, "node_modules"))
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
        for (const { name, text } of [...programs, ...examples]) Fs.writeFileSync(Path.join(folder, name), text)
        return folder
      }),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
    )
  )
}

it.layer(Folder.layer, { excludeTestServices: true, timeout: "60 seconds" })("Code in the documentation", (it) => {
  it.effect("compiles, as strictly as the library", () =>
    Effect.gen(function*() {
      const folder = yield* Folder
      const { output: compiler } = yield* execute(bin("effect-tsgo"), ["get-exe-path"], { cwd: folder })
      assert.deepStrictEqual(yield* execute(compiler, [], { cwd: folder }), { code: 0, output: "" })
    }))

  it.effect.each(programs)("$name runs, and prints what the page says", ({ name, prints }) =>
    Effect.gen(function*() {
      const { code, output } = yield* execute(bin("tsx"), [name], {
        cwd: yield* Folder,
        env: { REDIS_URL: inject("redisUrl") }
      })
      assert.deepStrictEqual({ code, output: prints === undefined ? undefined : output }, { code: 0, output: prints })
    }))
})
