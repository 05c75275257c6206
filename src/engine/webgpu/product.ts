/**
 * Matrix products [M,K] x [K,N], each operand as it lies or transposed. A workgroup computes a tile of the
 * result: slices of both operands go through its memory, each lane keeps a small block in registers
 * (Volkov & Demmel 2008). Limits that every WebGPU device has suffice: 256 invocations, 16 KiB.
 *
 * An element is the sum over k in ascending order, whatever the tile. Only where the result has too few tiles to
 * fill a device are long sums split, into a number of parts that depends on the shapes alone, and the parts
 * added in order.
 */
import type { TensorInfo } from '@tensorflow/tfjs';
import { type Operand, type Recorder, rowsOf, type Shader, shapeOf } from './recorder.ts';

/** How a product is cut up. A lane computes `block` x `block`, in groups of four. */
interface Tile {
  /** Rows and columns of the result that a workgroup computes. */
  readonly side: number;
  readonly block: number;
}

export const TILES = {
  large: { side: 128, block: 8 },
  middle: { side: 64, block: 4 },
  small: { side: 32, block: 4 },
} as const satisfies Record<string, Tile>;
/** Terms of the sum that pass through the workgroup's memory at a time. */
const DEPTH = 16;
/** Workgroups that keep a large device busy. */
const GROUPS_WANTED = 256;
/** A part of a split sum is not shorter. */
const SPLIT_TERMS_MIN = 512;

export interface Product {
  readonly a: Operand;
  readonly b: Operand;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** [N], added to every row; not with `transposeA`. */
  readonly bias?: TensorInfo;
  /** Written to instead of a new tensor. */
  readonly into?: Operand;
  /** Adds to what `into` holds. */
  readonly accumulate?: boolean;
  /** Instead of the tile that fits the result's size; changes no bit. */
  readonly tile?: keyof typeof TILES;
}

/**
 * The product, [M,N]: a new tensor, or the tensor written to. If `a` is more than a shader may be given it goes in ranges
 * of its rows; so does what has as many rows, the result or, where `a` is transposed, `b`.
 */
export function product(recorder: Recorder, options: Product): TensorInfo {
  const { a, b, transposeA = false, transposeB = false, into, accumulate = false } = options;
  const columns = shapeOf(b)[transposeB ? 0 : 1];
  const ranges = 'tensor' in a ? [a] : recorder.rowRanges(a, columns * 4);
  if (ranges.length === 1) return wholeProduct(recorder, options);
  const out = into ?? recorder.create([shapeOf(a)[transposeA ? 1 : 0], columns]);
  ranges.forEach((range, index) => {
    const part = transposeA
      ? { b: rowsOf(b, range), into: out, accumulate: accumulate || index > 0 }
      : { into: rowsOf(out, range) };
    wholeProduct(recorder, { ...options, a: range, ...part });
  });
  return 'tensor' in out ? out.tensor : out;
}

function wholeProduct(recorder: Recorder, options: Product): TensorInfo {
  const { a, b, transposeA = false, transposeB = false, bias, into, accumulate = false } = options;
  const [rows, inner] = transposeA ? reversed(shapeOf(a)) : shapeOf(a);
  const columns = shapeOf(b)[transposeB ? 0 : 1];
  const out = into ?? recorder.create([rows, columns]);
  const tile = TILES[options.tile ?? tileFor(rows, columns)];
  const tiles = Math.ceil(rows / tile.side) * Math.ceil(columns / tile.side);
  const splits = splitsFor(tiles, inner);
  const how = { tile, transposeA, transposeB, half: recorder.halfProducts };
  const finish = { hasBias: bias !== undefined, accumulate };
  const sizes = { rows, columns, inner, splits, termsOfSplit: Math.ceil(inner / splits) };
  if (splits === 1) {
    const shader = productShader({ ...how, ...finish });
    recorder.run(shader, { a, b, out, ...(bias && { bias }) }, sizes, tiles);
  } else {
    const parts = recorder.create([splits * rows, columns]);
    const shader = productShader({ ...how, hasBias: false, accumulate: false });
    recorder.run(shader, { a, b, out: parts }, sizes, tiles * splits);
    const groups = Math.ceil((rows * columns) / SUM_LANES);
    recorder.run(sumShader(finish), { parts, out, ...(bias && { bias }) }, { rows, columns, splits }, groups);
    recorder.release(parts);
  }
  return 'tensor' in out ? out.tensor : out;
}

function reversed([rows, columns]: readonly [number, number]): readonly [number, number] {
  return [columns, rows];
}

function tileFor(rows: number, columns: number): keyof typeof TILES {
  const count = ({ side }: Tile) => Math.ceil(rows / side) * Math.ceil(columns / side);
  if (count(TILES.large) >= GROUPS_WANTED) return 'large';
  return Math.min(rows, columns) > TILES.small.side && count(TILES.middle) > 4 ? 'middle' : 'small';
}

function splitsFor(tiles: number, inner: number): number {
  return Math.max(1, Math.min(Math.ceil(GROUPS_WANTED / tiles), Math.floor(inner / SPLIT_TERMS_MIN)));
}

interface Variant {
  readonly tile: Tile;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly hasBias: boolean;
  readonly accumulate: boolean;
  /** Whether operands are rounded to float16 in the workgroup's memory; products and sums are float32 all the same. */
  readonly half: boolean;
}

const productShaders = new Map<string, Shader>();

/** The shader of a variant, made once. */
export function productShader(variant: Variant): Shader {
  const key = JSON.stringify(variant);
  const shader = productShaders.get(key) ?? writeProduct(variant);
  productShaders.set(key, shader);
  return shader;
}

function writeProduct({ tile, transposeA, transposeB, hasBias, accumulate, half }: Variant): Shader {
  const { side, block } = tile;
  const across = side / block;
  const lanes = across ** 2;
  const quads = side / 4;
  const quadsOfLane = block / 4;
  const loads = (DEPTH * quads) / lanes;
  const held = half ? 'vec4<f16>' : 'vec4f';
  const each = (count: number, line: (index: number) => string) =>
    Array.from({ length: count }, (_, index) => line(index)).join('\n');
  /** Four neighbours of an operand along its outer axis at one place of the inner one, zeros beyond the ends. */
  const loader = (name: string, outer: string, outerIsFirst: boolean) => `
fn quadOf_${name}(outer: u32, inner: u32, innerEnd: u32) -> vec4f {
  var quad = vec4f();
  if (inner >= innerEnd) { return quad; }
  ${each(4, (i) => {
    const at = outerIsFirst
      ? `(outer + ${i}u) * sizes.inner + inner`
      : `inner * sizes.${outer} + outer + ${i}u`;
    return `if (outer + ${i}u < sizes.${outer}) { quad[${i}] = ${name}[sizes.skip_${name} + ${at}]; }`;
  })}
  return quad;
}`;
  /** Neighbouring lanes read neighbouring floats. */
  const fill = (name: string, outerIsFirst: boolean) =>
    each(loads, (i) => {
      const slot = `(lane + ${i * lanes}u)`;
      const [k, quad] = outerIsFirst
        ? [`${slot} % ${DEPTH}u`, `${slot} / ${DEPTH}u`]
        : [`${slot} / ${quads}u`, `${slot} % ${quads}u`];
      return `tile_${name}[(${k}) * ${quads}u + ${quad}] = ${held}(quadOf_${name}(first_${name} + (${quad}) * 4u, depth + ${k}, end));`;
    });
  const sum = (row: number, quad: number) => `sum_${row}_${quad}`;
  const write = (row: number, quad: number) => `
  {
    let row = firstRow + ${(row >> 2) * across * 4 + (row & 3)}u;
    let column = firstColumn + ${quad * across * 4}u;
    if (row < sizes.rows) {
      let at = sizes.skip_out + (part * sizes.rows + row) * sizes.columns + column;
      ${each(
        4,
        (i) => `if (column + ${i}u < sizes.columns) {
        out[at + ${i}u] = ${accumulate ? `out[at + ${i}u] + ` : ''}${sum(row, quad)}[${i}]${hasBias ? ` + bias[column + ${i}u]` : ''};
      }`,
      )}
    }
  }`;
  return {
    name: `product ${side}${transposeA ? ', A transposed' : ''}${transposeB ? ', B transposed' : ''}`,
    inputs: ['a', 'b', ...(hasBias ? ['bias'] : [])],
    outputs: ['out'],
    sizes: ['rows', 'columns', 'inner', 'splits', 'termsOfSplit', 'skip_a', 'skip_b', 'skip_out'],
    lanes,
    enable: half ? ['f16'] : [],
    code: `
var<workgroup> tile_a: array<${held}, ${DEPTH * quads}>;
var<workgroup> tile_b: array<${held}, ${DEPTH * quads}>;
${loader('a', 'rows', !transposeA)}
${loader('b', 'columns', transposeB)}
fn run(lane: u32, group: u32) {
  let tilesAcross = (sizes.columns + ${side - 1}u) / ${side}u;
  let tilesDown = (sizes.rows + ${side - 1}u) / ${side}u;
  let part = group / (tilesAcross * tilesDown);
  if (part >= sizes.splits) { return; }
  let tile = group % (tilesAcross * tilesDown);
  let first_a = (tile / tilesAcross) * ${side}u;
  let first_b = (tile % tilesAcross) * ${side}u;
  let quadRow = lane / ${across}u;
  let quadColumn = lane % ${across}u;
  let end = min((part + 1u) * sizes.termsOfSplit, sizes.inner);
  ${each(block, (row) => each(quadsOfLane, (quad) => `var ${sum(row, quad)} = vec4f();`))}
  for (var depth = part * sizes.termsOfSplit; depth < end; depth += ${DEPTH}u) {
    ${fill('a', !transposeA)}
    ${fill('b', transposeB)}
    workgroupBarrier();
    for (var k = 0u; k < ${DEPTH}u; k++) {
      ${each(quadsOfLane, (quad) => `let a_${quad} = vec4f(tile_a[k * ${quads}u + quadRow + ${quad * across}u]);`)}
      ${each(quadsOfLane, (quad) => `let b_${quad} = vec4f(tile_b[k * ${quads}u + quadColumn + ${quad * across}u]);`)}
      ${each(block, (row) =>
        each(quadsOfLane, (quad) => `${sum(row, quad)} += a_${row >> 2}[${row & 3}] * b_${quad};`),
      )}
    }
    workgroupBarrier();
  }
  let firstRow = first_a + quadRow * 4u;
  let firstColumn = first_b + quadColumn * 4u;
  ${each(block, (row) => each(quadsOfLane, (quad) => write(row, quad)))}
}`,
  };
}

const SUM_LANES = 64;
const sumShaders = new Map<string, Shader>();

/** The parts of a split product, added in order. */
function sumShader(finish: Pick<Variant, 'hasBias' | 'accumulate'>): Shader {
  const key = JSON.stringify(finish);
  const { hasBias, accumulate } = finish;
  const shader: Shader = sumShaders.get(key) ?? {
    name: 'sum of a split product',
    inputs: ['parts', ...(hasBias ? ['bias'] : [])],
    outputs: ['out'],
    sizes: ['rows', 'columns', 'splits', 'skip_out'],
    lanes: SUM_LANES,
    code: `
fn run(lane: u32, group: u32) {
  let index = group * LANES + lane;
  let size = sizes.rows * sizes.columns;
  if (index >= size) { return; }
  var sum = 0.0;
  for (var part = 0u; part < sizes.splits; part++) { sum += parts[part * size + index]; }
  let at = sizes.skip_out + index;
  out[at] = ${accumulate ? 'out[at] + ' : ''}sum${hasBias ? ' + bias[index % sizes.columns]' : ''};
}`,
  };
  sumShaders.set(key, shader);
  return shader;
}
