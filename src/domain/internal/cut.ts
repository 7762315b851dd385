/** Cuts a text to a length in UTF-16 code units; a text that was cut ends in `…`. */
export const cut = (text: string, max: number): string =>
  text.length <= max ? text : `${text.slice(0, max - 1).toWellFormed()}…`
