/** One line of the benchmark's table. */

export interface Row {
  /** What the row is called in the JSON file; its figures stand under it, without units. */
  readonly name: string
  readonly figures: Readonly<Record<string, number>>
  readonly what: string
  readonly measured: string
  /** The figure to reach; empty where a row only informs. */
  readonly toReach: string
  readonly isReached?: boolean | undefined
}

/** How much is done for each row: all of it, or just enough to show that it works. */
export interface Scale {
  readonly isQuick: boolean
}

type Line = ReadonlyArray<string>

const layOut = ([headings = [], ...body]: ReadonlyArray<Line>): string => {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...body.map((line) => line[column]?.length ?? 0))
  )
  const lineOf = (line: Line, fill = " ") =>
    `| ${widths.map((width, column) => (line[column] ?? "").padEnd(width, fill)).join(" | ")} |`
  return [lineOf(headings), lineOf([], "-"), ...body.map((line) => lineOf(line))].join("\n")
}

/** Lays rows out as an aligned table for a terminal, with a column that says what is reached. */
export const table = (rows: ReadonlyArray<Row>): string =>
  layOut([
    ["what", "measured", "to reach", ""],
    ...rows.map(({ isReached, measured, toReach, what }) => [
      what,
      measured,
      toReach,
      isReached === undefined ? "" : isReached ? "reached" : "MISSED"
    ])
  ])

/** Lays rows out as the Markdown table of `docs/performance.md`. */
export const markdown = (rows: ReadonlyArray<Row>): string =>
  layOut([
    ["what", "measured", "to reach"],
    ...rows.map(({ isReached, measured, toReach, what }) => [
      what,
      measured,
      isReached === false ? `${toReach}: missed` : toReach
    ])
  ])
