/** Programs in few files: a process that has to load and to compile each module for itself starts five times as slowly. */
import { Effect, type Scope } from "effect"
import { build, type BuildOptions } from "esbuild"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

/** A folder that goes away with the scope, in which programs find the packages of the project. */
export const folder = (name: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), `query-state-${name}-`))
      Fs.symlinkSync(Path.resolve("node_modules"), Path.join(folder, "node_modules"))
      return folder
    }),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
  )

const settings = {
  bundle: true,
  platform: "node",
  logLevel: "error",
  // Without them a class would print another name.
  keepNames: true,
  // Loads a file that lies beside it.
  external: ["node-sqlite3-wasm"]
} as const satisfies BuildOptions

/**
 * Makes of each program a file in a folder, named as it is, with the ending `.mjs`. The settings are those of a
 * `tsconfig.json`; by default the one of the project.
 */
export const bundle = (
  programs: ReadonlyArray<string>,
  folder: string,
  tsconfig = "tsconfig.json"
): Effect.Effect<void> =>
  Effect.asVoid(Effect.promise(() =>
    build({
      ...settings,
      entryPoints: [...programs],
      outdir: folder,
      tsconfig,
      format: "esm",
      // What several programs load is written once.
      splitting: true,
      outExtension: { ".js": ".mjs" },
      // For the packages that are CommonJS.
      banner: {
        js: `import * as __module from "node:module"; const require = __module.createRequire(import.meta.url);`
      }
    })
  ))
