/**
 * Philox4x32-10 as the paper writes it (Salmon et al., SC 2011, section 4.3), in arbitrary-precision
 * integers: the twin of src/base/philox.ts, whose 64-bit products are taken apart into halves.
 */
export function naivePhilox(counter: readonly number[], key: readonly number[]): number[] {
  const low = (value: bigint) => value & 0xffffffffn;
  const high = (value: bigint) => value >> 32n;
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round += 1) {
    const left = 0xd2511f53n * c0;
    const right = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [high(right) ^ c1 ^ k0, low(right), high(left) ^ c3 ^ k1, low(left)];
    k0 = low(k0 + 0x9e3779b9n);
    k1 = low(k1 + 0xbb67ae85n);
  }
  return [c0, c1, c2, c3].map(Number);
}
