/** The most letters of a name that are shown where there is little room. */
const MOST = 12;

/** A name short enough for a row: guests have long ones. */
export function shortName(name: string): string {
  return name.length <= MOST ? name : `${name.slice(0, MOST - 2)}…`;
}
