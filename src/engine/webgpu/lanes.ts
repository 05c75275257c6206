/**
 * WGSL that a workgroup's invocations share: a number of each combined over all of them, by a halving tree over the
 * lanes, whose number is a power of two. The tree is the same on every device, and so are the bits. Where a device has
 * subgroups their lanes exchange the last halvings directly, without a barrier for each: as many as fit the smallest
 * subgroup that the device may choose, so that the size which it does choose does not matter.
 */

const REDUCTIONS = {
  /** Each lane's value in, the whole group's sum out; every lane calls it. */
  sumOfLanes: { type: 'f32', combine: (a, b) => `${a} + ${b}` },
  /** As `sumOfLanes`, of the largest. */
  maxOfLanes: { type: 'f32', combine: (a, b) => `max(${a}, ${b})` },
  /** As `sumOfLanes`, of the smallest whole number. */
  firstOfLanes: { type: 'u32', combine: (a, b) => `min(${a}, ${b})` },
} as const satisfies Record<string, { type: string; combine: (a: string, b: string) => string }>;

export type Reduction = keyof typeof REDUCTIONS;

/**
 * The function of that name.
 * @param exchanged lanes that exchange directly, a power of two; WGSL then finds the lane's place in its
 *   subgroup as `subgroupLane`. 1 for a device without subgroups.
 */
export function reductionCode(name: Reduction, exchanged: number): string {
  const { type, combine } = REDUCTIONS[name];
  const part = `${name}Part`;
  const halvings = Array.from({ length: Math.log2(exchanged) }, (_, index) => exchanged >> (index + 1));
  return `
var<workgroup> ${part}: array<${type}, LANES>;
fn ${name}(lane: u32, value: ${type}) -> ${type} {
  ${part}[lane] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half >= ${exchanged}u; half /= 2u) {
    if (lane < half) {
      ${part}[lane] = ${combine(`${part}[lane]`, `${part}[lane + half]`)};
    }
    workgroupBarrier();
  }
  var whole = ${part}[${exchanged === 1 ? '0' : `subgroupLane % ${exchanged}u`}];
  ${halvings.map((half) => `whole = ${combine('whole', `subgroupShuffleXor(whole, ${half}u)`)};`).join('\n  ')}
  workgroupBarrier();
  return whole;
}`;
}
