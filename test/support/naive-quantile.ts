/** The nearest-rank quantile by its definition: the smallest sample not exceeded by `share` of them. */
export function naiveQuantile(samples: readonly number[], share: number): number {
  const candidates = samples.filter(
    (value) => samples.filter((other) => other <= value).length >= share * samples.length,
  );
  return Math.min(...candidates);
}
