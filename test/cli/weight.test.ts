import { assert, it } from "@effect/vitest"
import { build } from "esbuild"

it("importing the library loads neither the inspector nor its dependencies", async () => {
  const { metafile } = await build({
    entryPoints: ["src/index.ts"],
    bundle: true,
    platform: "node",
    format: "esm",
    external: ["ioredis"],
    metafile: true,
    write: false
  })
  const loaded = Object.keys(metafile.inputs)
  assert.include(loaded, "src/services/QueryFleet.ts")
  assert.deepStrictEqual(loaded.filter((file) => /(src|effect\/dist)\/cli\//.test(file)), [])
})
