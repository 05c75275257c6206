/**
 * Where each named tensor lies in the flat parameter vector. The layout is a pure function of the
 * model's configuration; bucket, shard and checkpoint layout follow from it, so all replicas and
 * all times agree (PyTorch's rebuilt buckets diverged on recovering replicas).
 */
export interface ParameterEntry {
  /** The tensor's name in the Hugging Face BART checkpoint. */
  readonly name: string;
  /** Row-major; linear weights are [out, in]. */
  readonly shape: readonly number[];
  /** First element within the flat vector, in floats. */
  readonly offset: number;
  /** Number of elements. */
  readonly size: number;
}

export type ParameterLayout = readonly ParameterEntry[];

/** Lays tensors end to end, in the order given. */
export function layoutOf(tensors: readonly { name: string; shape: readonly number[] }[]): ParameterLayout {
  let offset = 0;
  return tensors.map(({ name, shape }) => {
    const size = shape.reduce((product, side) => product * side, 1);
    const entry = { name, shape, offset, size };
    offset += size;
    return entry;
  });
}

/** Elements of the whole flat vector. */
export function layoutSize(layout: ParameterLayout): number {
  const last = layout.at(-1);
  return last === undefined ? 0 : last.offset + last.size;
}
