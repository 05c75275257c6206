/** Branded identifiers: plain strings and numbers at run time, not interchangeable to the compiler. */
declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

export type RunId = Brand<string, 'RunId'>;
/** A worker's name, unique within a run's membership (`worker-0`). */
export type WorkerId = Brand<string, 'WorkerId'>;
/** Drawn anew at every process start, so that a restarted worker is never taken for its former self. */
export type Incarnation = Brand<string, 'Incarnation'>;

export const asRunId = (value: string): RunId => value as RunId;
export const asWorkerId = (value: string): WorkerId => value as WorkerId;
export const asIncarnation = (value: string): Incarnation => value as Incarnation;

/** A half-open range `first .. first + count - 1` of slots of one step. */
export interface SlotRange {
  readonly first: number;
  readonly count: number;
}
