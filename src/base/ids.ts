/** Branded identifiers: plain strings and numbers at run time, not interchangeable to the compiler. */
declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

export type RunId = Brand<string, 'RunId'>;

export const asRunId = (value: string): RunId => value as RunId;

/** A half-open range `first .. first + count - 1` of slots of one step. */
export interface SlotRange {
  readonly first: number;
  readonly count: number;
}
