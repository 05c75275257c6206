/**
 * Broken invariants crash. An assertion failing is a defect of Lockstep, never a user's mistake;
 * expected trouble is an event and bad input is a `LockstepError` (see errors.ts).
 */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(`invariant broken: ${message}`);
}

/** Ends an exhaustive `switch`: the type checker refuses the call while a case is missing. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable case: ${JSON.stringify(value)}`);
}
