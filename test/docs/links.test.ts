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

it.each(pages)("every link of %s leads somewhere", (page) => {
  const broken = linksOf(page).filter((link) => {
    const [path = "", anchor] = link.split("#")
    const file = path === "" ? page : Path.join(Path.dirname(page), path)
    return !existsSync(file) || (anchor !== undefined && !anchorsOf(file).includes(anchor))
  })
  assert.deepStrictEqual(broken, [])
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
