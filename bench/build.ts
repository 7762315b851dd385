/** Lets a program of this folder import another build of the library, with the version of Effect that it was built for. */
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const tsconfigHere = fileURLToPath(new URL("tsconfig.dist.json", import.meta.url))

const libraryOf = (dir: string): string => Path.resolve(dir, "dist/index.js")

/** Whether a folder is a checkout with a build. */
export const isThere = (dir: string): boolean => Fs.existsSync(libraryOf(dir))

/** Writes the tsconfig of a build, which tsx takes its import paths from. It is removed with the scope. */
export const tsconfigOf = (dir: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const effect = Fs.realpathSync(Path.resolve(dir, "node_modules/effect/dist"))
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "bench-"))
      const tsconfig = Path.join(folder, "tsconfig.json")
      Fs.writeFileSync(
        tsconfig,
        JSON.stringify({
          extends: tsconfigHere,
          compilerOptions: {
            paths: {
              "effect-query-state": [libraryOf(dir)],
              effect: [Path.join(effect, "index.js")],
              "effect/*": [Path.join(effect, "*.js")]
            }
          }
        })
      )
      return tsconfig
    }),
    (tsconfig) => Effect.sync(() => Fs.rmSync(Path.dirname(tsconfig), { recursive: true }))
  )
