/** One line of the benchmark's table. */

export interface Row {
  /** What the row is called in the JSON file; its figures stand under it, without units. */
  readonly name: string
  readonly figures: Readonly<Record<string, number>>
  readonly what: string
  readonly measured: string
  /** What has to be reached, or with what it is compared; empty where there is nothing to reach. */
  readonly toReach: string
  readonly met?: boolean | undefined
}

/** How much is done for each row: all of it, or as much as shows that it works. */
export interface Scale {
  readonly isQuick: boolean
}

const headings = { what: "what", measured: "measured", toReach: "to reach", met: "met" } as const

type Cells = Readonly<Record<keyof typeof headings, string>>

const cellsOf = ({ measured, met, toReach, what }: Row): Cells => ({
  what,
  measured,
  toReach,
  met: met === undefined ? "" : met ? "yes" : "NO"
})

/** Lays rows out as a table whose columns are aligned; it is Markdown too. */
export const table = (rows: ReadonlyArray<Row>): string => {
  const cells = [headings, ...rows.map(cellsOf)]
  const columns = Object.keys(headings) as ReadonlyArray<keyof typeof headings>
  const widths = new Map(columns.map((column) => [column, Math.max(...cells.map((line) => line[column].length))]))
  const lineOf = (line: Cells, fill = " ") =>
    `| ${columns.map((column) => line[column].padEnd(widths.get(column) ?? 0, fill)).join(" | ")} |`
  const [head = headings, ...body] = cells
  return [
    lineOf(head),
    lineOf({ what: "", measured: "", toReach: "", met: "" }, "-"),
    ...body.map((line) => lineOf(line))
  ].join("\n")
}
