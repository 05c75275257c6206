/**
 * What the shaders of attention have in common. Each lane owns one row of a head, a query or a key, and keeps
 * what belongs to it in registers, four features at a time; the rows of the other side pass by in tiles that the
 * workgroup loads together. So scores exist one at a time, and every sum runs over the other side in order.
 *
 * Rows are read as they lie, [B*rows, H*E]: no transposition. Legend: E features of a head.
 */
import type { Shader } from './recorder.ts';

/** Rows that a workgroup owns. */
export const ROWS = 64;
/** Quads of one tile; two tiles fill the 16 KiB that every device has. */
const TILE_QUADS = 512;

export interface AttentionVariant {
  /** E. */
  readonly headSize: number;
  readonly hasBias: boolean;
  readonly hasMask: boolean;
}

export interface AttentionShader {
  readonly name: string;
  readonly owned: 'queries' | 'keys';
  /** The two arrays of the other side that pass by. */
  readonly tiled: readonly [string, string];
  /** The arrays of the owned side that stay in registers. */
  readonly held: readonly string[];
  /** Arrays [B*Q, H] of numbers about each row of weights. */
  readonly statistics: readonly string[];
  readonly outputs: readonly string[];
  /** WGSL before the first tile; `ofRow` is the owned row's place in a statistic. */
  readonly before?: string;
  /** WGSL for each row of the other side, which adds to SUM; may use `query`, `key`, and a query's place `ofQuery`. */
  readonly each: string;
  /** WGSL after the last, for a row that is there. */
  readonly after: string;
}

/** Features of a head in groups of four; what is missing in the last is 0. */
export function quadsOf({ headSize }: AttentionVariant): number {
  return Math.ceil(headSize / 4);
}

/** A line of WGSL for each quad of a head. */
export function eachQuad(variant: AttentionVariant, line: (quad: number) => string): string {
  return Array.from({ length: quadsOf(variant) }, (_, quad) => line(quad)).join('\n');
}

/** WGSL: quad of the row of a tile that is passing by. */
export function tileQuad(array: string, quad: number): string {
  return `tile_${array}[place * QUADS + ${quad}u]`;
}

/** WGSL: the inner product of an owned row, with the row of a tile. */
export function innerProduct(variant: AttentionVariant, owned: string, array: string): string {
  const products = Array.from({ length: quadsOf(variant) }, (_, quad) => {
    return `${owned}_${quad} * ${tileQuad(array, quad)}`;
  });
  return `dot(${products.join(' + ')}, vec4f(1.0))`;
}

/** WGSL: writes the owned row's sum, times `factor`, to `array`. */
export function storeSum({ headSize }: AttentionVariant, array: string, factor: string): string {
  return Array.from(
    { length: headSize },
    (_, i) => `${array}[start + ${i}u] = sum_${i >> 2}[${i & 3}] * ${factor};`,
  ).join('\n');
}

export function writeShader(variant: AttentionVariant, parts: AttentionShader): Shader {
  const { headSize, hasBias, hasMask } = variant;
  const { name, owned, tiled, held, statistics, outputs, before = '', each, after } = parts;
  const other = owned === 'queries' ? 'keys' : 'queries';
  const [mine, others] = owned === 'queries' ? ['query', 'key'] : ['key', 'query'];
  const quads = quadsOf(variant);
  const rowsOfTile = Math.max(1, Math.min(32, Math.floor(TILE_QUADS / quads)));
  const quadOf = (array: string) => `
fn quadOf_${array}(start: u32, quad: u32) -> vec4f {
  let at = quad * 4u;
  return vec4f(${[0, 1, 2, 3]
    .map((i) => `select(0.0, ${array}[start + min(at + ${i}u, E - 1u)], at + ${i}u < E)`)
    .join(', ')});
}`;
  return {
    name: `${name}, ${headSize} features a head`,
    inputs: [
      ...[...tiled, ...held, ...statistics],
      ...(hasBias ? ['keyBias'] : []),
      ...(hasMask ? ['weightMask'] : []),
    ],
    outputs,
    sizes: [
      ...['batches', 'firstBatch', 'heads', 'queries', 'keys', 'biasOfBatch', 'biasOfQuery', 'scale: f32'],
      ...(hasMask ? ['skip_weightMask'] : []),
    ],
    lanes: ROWS,
    code: `
const E = ${headSize}u;
const QUADS = ${quads}u;
const TILE = ${rowsOfTile}u;
${tiled.map((array) => `var<workgroup> tile_${array}: array<vec4f, ${rowsOfTile * quads}>;`).join('\n')}
${[...tiled, ...held].map(quadOf).join('\n')}
fn scoreOf(product: f32, batch: u32, query: u32, key: u32) -> f32 {
  return product * sizes.scale${
    hasBias ? ' + keyBias[batch * sizes.biasOfBatch + query * sizes.biasOfQuery + key]' : ''
  };
}
fn maskOf(batch: u32, head: u32, query: u32, key: u32) -> f32 {
  return ${
    hasMask
      ? 'weightMask[sizes.skip_weightMask + (((batch - sizes.firstBatch) * sizes.heads + head) * sizes.queries + query) * sizes.keys + key]'
      : '1.0'
  };
}
fn run(lane: u32, group: u32) {
  let blocks = (sizes.${owned} + LANES - 1u) / LANES;
  if (group >= sizes.batches * sizes.heads * blocks) { return; }
  let batch = sizes.firstBatch + group / (blocks * sizes.heads);
  let head = (group / blocks) % sizes.heads;
  let row = (group % blocks) * LANES + lane;
  // A lane without a row goes along with the last one, for all meet at the barriers.
  let ${mine} = min(row, sizes.${owned} - 1u);
  let ofRow = (batch * sizes.${owned} + ${mine}) * sizes.heads + head;
  let start = ofRow * E;
  ${held.map((array) => eachQuad(variant, (quad) => `let ${array}_${quad} = quadOf_${array}(start, ${quad}u);`)).join('\n')}
  ${eachQuad(variant, (quad) => `var sum_${quad} = vec4f();`)}
  ${before}
  for (var first = 0u; first < sizes.${other}; first += TILE) {
    let count = min(TILE, sizes.${other} - first);
    for (var slot = lane; slot < count * QUADS; slot += LANES) {
      let begin = ((batch * sizes.${other} + first + slot / QUADS) * sizes.heads + head) * E;
      ${tiled.map((array) => `tile_${array}[slot] = quadOf_${array}(begin, slot % QUADS);`).join('\n')}
    }
    workgroupBarrier();
    for (var place = 0u; place < count; place++) {
      let ${others} = first + place;
      let ofQuery = (batch * sizes.queries + query) * sizes.heads + head;
      ${each}
    }
    workgroupBarrier();
  }
  if (row >= sizes.${owned}) { return; }
  ${after}
}`,
  };
}
