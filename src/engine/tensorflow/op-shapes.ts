/**
 * What must be known of an operation to record it instead of running it: the shapes and types of its outputs, as
 * TensorFlow would give them. An operation that is not in the table is run at once, so the table holds what the
 * model uses, and nothing whose result is not a function of its inputs. Pure.
 */
import type { Attribute, Values } from './binding.ts';

export interface Operand {
  readonly shape: readonly number[];
  readonly dtype: number;
  /** Of a small tensor that came from the host; null where only the device knows. */
  readonly values: Values | null;
}

export interface Output {
  readonly shape: number[];
  readonly dtype: number;
}

export type Attributes = (name: string) => Attribute['value'] | undefined;

export interface Rule {
  /** One for each output; null where the operands do not tell. */
  outputs(operands: readonly Operand[], attributes: Attributes): Output[] | null;
  /** Operands that become constants of the graph, counted from the end where negative: axes and the like, of few values. */
  readonly constants: readonly number[];
}

type OutputsOf = Rule['outputs'];

const rule = (outputs: OutputsOf, constants: readonly number[] = []): Rule => ({ outputs, constants });

const likeFirst: OutputsOf = ([first]) => [{ shape: [...first!.shape], dtype: first!.dtype }];

const broadcast: OutputsOf = ([a, b]) => [{ shape: broadcastShape(a!.shape, b!.shape), dtype: a!.dtype }];

const reduction: OutputsOf = ([x, axes], attributes) => {
  if (axes!.values === null) return null;
  const rank = x!.shape.length;
  const reduced = new Set([...axes!.values].map((axis) => (axis < 0 ? axis + rank : axis)));
  const shape = x!.shape.flatMap((side, axis) => {
    if (!reduced.has(axis)) return side;
    return attributes('keep_dims') === true ? 1 : [];
  });
  return [{ shape, dtype: x!.dtype }];
};

const matMul: OutputsOf = ([a, b], attributes) => {
  const rows = a!.shape[attributes('transpose_a') === true ? 1 : 0]!;
  const columns = b!.shape[attributes('transpose_b') === true ? 0 : 1]!;
  return [{ shape: [rows, columns], dtype: a!.dtype }];
};

const batchMatMul: OutputsOf = ([a, b], attributes) => {
  const batch = broadcastShape(a!.shape.slice(0, -2), b!.shape.slice(0, -2));
  const rows = a!.shape.at(attributes('adj_x') === true ? -1 : -2)!;
  const columns = b!.shape.at(attributes('adj_y') === true ? -2 : -1)!;
  return [{ shape: [...batch, rows, columns], dtype: a!.dtype }];
};

const reshape: OutputsOf = ([x, target]) => {
  if (target!.values === null) return null;
  const shape = [...target!.values];
  const open = shape.indexOf(-1);
  if (open >= 0) {
    const rest = shape.reduce((product, side, axis) => (axis === open ? product : product * side), 1);
    shape[open] = x!.shape.reduce((product, side) => product * side, 1) / rest;
  }
  return [{ shape, dtype: x!.dtype }];
};

const transpose: OutputsOf = ([x, permutation]) => {
  if (permutation!.values === null) return null;
  return [{ shape: [...permutation!.values].map((axis) => x!.shape[axis]!), dtype: x!.dtype }];
};

const gather: OutputsOf = ([params, indices, axis], attributes) => {
  if (axis!.values === null || attributes('batch_dims') !== 0) return null;
  const at = axis!.values[0]!;
  const shape = [...params!.shape.slice(0, at), ...indices!.shape, ...params!.shape.slice(at + 1)];
  return [{ shape, dtype: params!.dtype }];
};

const gatherNd: OutputsOf = ([params, indices]) => {
  const depth = indices!.shape.at(-1)!;
  return [{ shape: [...indices!.shape.slice(0, -1), ...params!.shape.slice(depth)], dtype: params!.dtype }];
};

const concat: OutputsOf = (operands) => {
  const parts = operands.slice(0, -1);
  const axisValues = operands.at(-1)!.values;
  if (axisValues === null) return null;
  const shape = [...parts[0]!.shape];
  const axis = axisValues[0]! < 0 ? axisValues[0]! + shape.length : axisValues[0]!;
  shape[axis] = parts.reduce((sum, part) => sum + part.shape[axis]!, 0);
  return [{ shape, dtype: parts[0]!.dtype }];
};

const slice: OutputsOf = ([x, begin, size]) => {
  if (begin!.values === null || size!.values === null) return null;
  const first = begin!.values;
  const shape = [...size!.values].map((side, axis) => (side < 0 ? x!.shape[axis]! - first[axis]! : side));
  return [{ shape, dtype: x!.dtype }];
};

const tile: OutputsOf = ([x, multiples]) => {
  const times = multiples!.values;
  return times === null
    ? null
    : [{ shape: x!.shape.map((side, axis) => side * times[axis]!), dtype: x!.dtype }];
};

const split: OutputsOf = ([x, sizes, axisOperand]) => {
  if (sizes!.values === null || axisOperand!.values === null) return null;
  const axis = axisOperand!.values[0]!;
  return [...sizes!.values].map((size) => ({
    shape: x!.shape.map((side, at) => (at === axis ? size : side)),
    dtype: x!.dtype,
  }));
};

const pack: OutputsOf = (operands, attributes) => {
  const shape = [...operands[0]!.shape];
  shape.splice(attributes('axis') as number, 0, operands.length);
  return [{ shape, dtype: operands[0]!.dtype }];
};

const oneHot: OutputsOf = ([indices, depth, on], attributes) => {
  if (depth!.values === null || attributes('axis') !== -1) return null;
  return [{ shape: [...indices!.shape, depth!.values[0]!], dtype: on!.dtype }];
};

const argMax: OutputsOf = ([x, dimension], attributes) => {
  if (dimension!.values === null) return null;
  const rank = x!.shape.length;
  const axis = (dimension!.values[0]! + rank) % rank;
  return [{ shape: x!.shape.filter((_, at) => at !== axis), dtype: attributes('output_type') as number }];
};

const cast: OutputsOf = ([x], attributes) => [{ shape: [...x!.shape], dtype: attributes('DstT') as number }];

const biasGradient: OutputsOf = ([dy]) => [{ shape: [dy!.shape.at(-1)!], dtype: dy!.dtype }];

const AS_FIRST = [
  ...['Square', 'Neg', 'Exp', 'Erf', 'Rsqrt', 'Sqrt', 'Log', 'Tanh', 'Softmax', 'LogSoftmax'],
  ...['BiasAdd', 'InplaceSub'],
];
const BROADCAST = ['Add', 'AddV2', 'Sub', 'Mul', 'Div', 'RealDiv', 'Maximum', 'Minimum'];

export const RULES: ReadonlyMap<string, Rule> = new Map([
  ...AS_FIRST.map((name) => [name, rule(likeFirst)] as const),
  ...BROADCAST.map((name) => [name, rule(broadcast)] as const),
  ...['Sum', 'Mean', 'Max', 'Min'].map((name) => [name, rule(reduction, [1])] as const),
  ['MatMul', rule(matMul)],
  ['BatchMatMulV2', rule(batchMatMul)],
  ['BiasAddGrad', rule(biasGradient)],
  ['Reshape', rule(reshape)],
  ['Transpose', rule(transpose, [1])],
  ['GatherV2', rule(gather, [2])],
  ['GatherNd', rule(gatherNd)],
  ['ConcatV2', rule(concat, [-1])],
  ['Slice', rule(slice)],
  ['Tile', rule(tile)],
  ['SplitV', rule(split, [2])],
  ['Pack', rule(pack)],
  ['OneHot', rule(oneHot)],
  ['ArgMax', rule(argMax, [1])],
  ['Cast', rule(cast)],
]);

/** As NumPy's broadcasting, for shapes known to fit. */
function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, index) => {
    const left = a.at(index - rank) ?? 1;
    return left === 1 ? (b.at(index - rank) ?? 1) : left;
  });
}
