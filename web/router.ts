/**
 * Addresses within the page: `#/workers`, `#/log/worker-0.log/1700000000000`. The part after `#` never reaches the server, so
 * a reload works whatever it says, and back and forward work as everywhere.
 */

export interface Place {
  readonly name: string;
  readonly rest: readonly string[];
}

/** The place an address names; an empty or unreadable one is the overview. */
export function placeOf(hash: string): Place {
  const parts = hash.replace(/^#\/?/, '').split('/');
  try {
    const [name, ...rest] = parts.map(decodeURIComponent);
    return { name: name === undefined || name === '' ? 'overview' : name, rest };
  } catch {
    return { name: 'overview', rest: [] };
  }
}

export function addressOf(name: string, ...rest: readonly (string | number)[]): string {
  return `#/${[name, ...rest].map((part) => encodeURIComponent(part)).join('/')}`;
}
