/** Typed arrays that grow: twice the length, the same values in front. */
export function doubled<T extends Int32Array | Float64Array>(values: T): T {
  const larger = new (values.constructor as new (length: number) => T)(Math.max(1, values.length) * 2);
  larger.set(values);
  return larger;
}
