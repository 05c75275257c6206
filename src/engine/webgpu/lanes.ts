/** WGSL that a workgroup's invocations share: sums and maxima over all of them, in an order fixed by their number. */

/** Each lane's value in, the whole group's sum out; every lane calls it. */
export const SUM_OF_LANES = reduction('sumOfLanes', (a, b) => `${a} + ${b}`);

/** As `sumOfLanes`, of the largest. */
export const MAX_OF_LANES = reduction('maxOfLanes', (a, b) => `max(${a}, ${b})`);

/** Halving tree over the lanes, whose number is a power of two. */
function reduction(name: string, combine: (a: string, b: string) => string): string {
  return `
var<workgroup> ${name}Part: array<f32, LANES>;
fn ${name}(lane: u32, value: f32) -> f32 {
  ${name}Part[lane] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      ${name}Part[lane] = ${combine(`${name}Part[lane]`, `${name}Part[lane + half]`)};
    }
    workgroupBarrier();
  }
  let whole = ${name}Part[0];
  workgroupBarrier();
  return whole;
}`;
}
