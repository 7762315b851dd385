import { assert, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import * as Path from "node:path"
import { pages } from "../support/markdown.ts"

/** What is behind a "#" in a link to a heading. */
const anchorsOf = (page: string) =>
  Array.from(
    readFileSync(page, "utf8").matchAll(/^#+ (.*)$/gm),
    ([, heading = ""]) => heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  )

const linksOf = (page: string) =>
  Array.from(readFileSync(page, "utf8").matchAll(/\]\(([^)\s]+)\)/g), ([, link = ""]) => link)
    .filter((link) => !/^https?:/.test(link))

const documents = [...pages, "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md"]

it.each(documents)("every link of %s leads somewhere", (page) => {
  const broken = linksOf(page).filter((link) => {
    const [path = "", anchor] = link.split("#")
    const file = path === "" ? page : Path.join(Path.dirname(page), path)
    return !existsSync(file) || (anchor !== undefined && !anchorsOf(file).includes(anchor))
  })
  assert.deepStrictEqual(broken, [])
})

// npm packs the README, the licence and the manifest without being asked to.
const { files } = JSON.parse(readFileSync("package.json", "utf8")) as { readonly files: ReadonlyArray<string> }
const isPacked = (file: string) =>
  ["README.md", "LICENSE", "package.json"].includes(file)
  || files.some((pattern) => new RegExp(`^${pattern.replaceAll("*", "[^/]*")}(/|$)`).test(file))

it.each([...pages, "CHANGELOG.md"])("every link of %s, which is packed, leads to a packed file", (page) => {
  const unpacked = linksOf(page)
    .map((link) => Path.join(Path.dirname(page), link.split("#")[0] ?? ""))
    .filter((file) => file !== Path.dirname(page) && !isPacked(file))
  assert.deepStrictEqual(unpacked, [])
})

it.each(pages)("every test that %s names exists", (page) => {
  const named = Array.from(readFileSync(page, "utf8").matchAll(/`([\w/]+\.test\.ts)`/g), ([, file = ""]) => file)
  assert.deepStrictEqual(named.filter((file) => !existsSync(Path.join("test", file))), [])
})

it("the index lists every page, once", () => {
  const listed = linksOf("docs/README.md").map((link) => `docs/${link}`)
  assert.deepStrictEqual(listed.toSorted(), pages.filter((page) => Path.basename(page) !== "README.md").toSorted())
})

it("the index in the README is that of the documentation", () => {
  const rows = (page: string, folder: string) =>
    Array.from(
      readFileSync(page, "utf8").matchAll(/^\| \[[^\]]+\]\(([\w-/]+\.md)\)/gm),
      ([, link = ""]) => Path.relative(folder, link)
    )
  assert.deepStrictEqual(rows("README.md", "docs"), rows("docs/README.md", ""))
})
