/**
 * TensorFlow operations by name on bare handles, beneath tfjs: no tape, no scopes, no tensor objects, and
 * a temporary is freed as soon as it was read, so that the next one is written where the cache is warm.
 *
 * Ownership: an operation frees the temporaries it reads. `keep` a value that is read more than once or
 * handed out; what is kept is the caller's, until `release` or `tensor`.
 */
import type * as tfjs from '@tensorflow/tfjs';
import type { Attribute, Binding } from './binding.ts';

/** The part of the Node backend used here; its own types declare it private. */
export interface OpsBackend {
  readonly binding: Binding;
  getInputTensorIds(tensors: readonly tfjs.TensorInfo[]): number[];
  readSync(dataId: object): unknown;
  createOutputTensor(metadata: { id: number; shape: number[]; dtype: number }): tfjs.Tensor;
}

/** A tensor of TensorFlow's by its handle. */
export interface Value {
  readonly id: number;
  isTemporary: boolean;
}

/** Attention's permutation: [B, rows, H, E] and [B, H, rows, E] to each other. */
export const SWAP_MIDDLE: readonly number[] = [0, 2, 1, 3];

export class TensorflowOps {
  readonly #backend: OpsBackend;
  readonly #binding: Binding;
  readonly #float: readonly Attribute[];
  readonly #reduction: readonly (readonly Attribute[])[];
  readonly #matMul: readonly (readonly Attribute[])[];
  readonly #batchMatMul: readonly (readonly Attribute[])[];
  readonly #indexed: readonly Attribute[];
  readonly #place: readonly Attribute[];
  readonly #toFloat: readonly Attribute[];
  readonly #sliced: readonly Attribute[];
  readonly #transposed: readonly Attribute[];
  readonly #shaped: readonly Attribute[];
  readonly #scalars = new Map<number, Value>();
  readonly #vectors = new Map<string, Value>();
  readonly #axes = new Map<number, Value>();

  constructor(backend: OpsBackend) {
    const { binding } = backend;
    this.#backend = backend;
    this.#binding = binding;
    const type = (name: string, value: number) => ({ name, type: binding.TF_ATTR_TYPE, value });
    const flag = (name: string, value: boolean) => ({ name, type: binding.TF_ATTR_BOOL, value });
    const float = type('T', binding.TF_FLOAT);
    this.#float = [float];
    this.#reduction = [false, true].map((keep) => [
      flag('keep_dims', keep),
      float,
      type('Tidx', binding.TF_INT32),
    ]);
    const pairs = [0, 1, 2, 3].map((index) => [index >= 2, index % 2 === 1] as const);
    this.#matMul = pairs.map(([a, b]) => [float, flag('transpose_a', a), flag('transpose_b', b)]);
    this.#batchMatMul = pairs.map(([a, b]) => [float, flag('adj_x', a), flag('adj_y', b)]);
    this.#place = [float, type('Tidx', binding.TF_INT32), type('output_type', binding.TF_INT32)];
    this.#toFloat = [type('SrcT', binding.TF_INT32), type('DstT', binding.TF_FLOAT), flag('Truncate', false)];
    this.#sliced = [float, type('Index', binding.TF_INT32)];
    this.#transposed = [float, type('Tperm', binding.TF_INT32)];
    this.#shaped = [float, type('Tshape', binding.TF_INT32)];
    this.#indexed = [
      { name: 'batch_dims', type: binding.TF_ATTR_INT, value: 0 },
      type('Tparams', binding.TF_FLOAT),
      type('Tindices', binding.TF_INT32),
      type('Taxis', binding.TF_INT32),
    ];
  }

  /** A tfjs tensor as a value that stays tfjs's. */
  read(tensor: tfjs.TensorInfo): Value {
    return { id: this.#backend.getInputTensorIds([tensor])[0]!, isTemporary: false };
  }

  /** The elements of an int32 tensor. */
  integers({ dataId }: tfjs.TensorInfo): Int32Array {
    // The backend hands out int32 tensors as this.
    return this.#backend.readSync(dataId) as Int32Array;
  }

  /** A value of the caller's as a tfjs tensor, which owns it from now on. */
  tensor({ id }: Value, shape: readonly number[]): tfjs.Tensor {
    return this.#backend.createOutputTensor({ id, shape: [...shape], dtype: this.#binding.TF_FLOAT });
  }

  keep(value: Value): Value {
    value.isTemporary = false;
    return value;
  }

  /** Frees kept values. */
  release(...values: readonly Value[]): void {
    for (const { id } of values) this.#binding.deleteTensor(id);
  }

  add(a: Value, b: Value): Value {
    return this.#run('AddV2', this.#float, a, b);
  }
  sub(a: Value, b: Value): Value {
    return this.#run('Sub', this.#float, a, b);
  }
  mul(a: Value, b: Value): Value {
    return this.#run('Mul', this.#float, a, b);
  }
  scale(x: Value, factor: number): Value {
    return this.mul(x, this.scalar(factor));
  }
  square(x: Value): Value {
    return this.#run('Square', this.#float, x);
  }
  neg(x: Value): Value {
    return this.#run('Neg', this.#float, x);
  }
  exp(x: Value): Value {
    return this.#run('Exp', this.#float, x);
  }
  erf(x: Value): Value {
    return this.#run('Erf', this.#float, x);
  }
  rsqrt(x: Value): Value {
    return this.#run('Rsqrt', this.#float, x);
  }
  softmax(x: Value): Value {
    return this.#run('Softmax', this.#float, x);
  }
  logSoftmax(x: Value): Value {
    return this.#run('LogSoftmax', this.#float, x);
  }
  /** x + bias, along the last axis. */
  biasAdd(x: Value, bias: Value): Value {
    return this.#run('BiasAdd', this.#float, x, bias);
  }
  /** Sum over all but the last axis. */
  biasGradient(dy: Value): Value {
    return this.#run('BiasAddGrad', this.#float, dy);
  }
  /** Of the last axis, which stays as 1. */
  rowSum(x: Value): Value {
    return this.#run('Sum', this.#reduction[1]!, x, this.#vector([-1]));
  }
  rowMean(x: Value): Value {
    return this.#run('Mean', this.#reduction[1]!, x, this.#vector([-1]));
  }
  rowMax(x: Value): Value {
    return this.#run('Max', this.#reduction[1]!, x, this.#vector([-1]));
  }
  /** The place of the largest of each row, as a float, [N] of [N, V]. */
  rowArgMax(x: Value): Value {
    return this.#run('Cast', this.#toFloat, this.#run('ArgMax', this.#place, x, this.#axis(-1)));
  }
  /** Of a vector. */
  sum(x: Value): Value {
    return this.#run('Sum', this.#reduction[0]!, x, this.#vector([0]));
  }
  /** Of two matrices. */
  matMul(a: Value, b: Value, transposeA = false, transposeB = false): Value {
    return this.#run('MatMul', this.#matMul[pairIndex(transposeA, transposeB)]!, a, b);
  }
  batchMatMul(a: Value, b: Value, transposeA = false, transposeB = false): Value {
    return this.#run('BatchMatMulV2', this.#batchMatMul[pairIndex(transposeA, transposeB)]!, a, b);
  }
  transpose(x: Value, permutation: readonly number[]): Value {
    return this.#run('Transpose', this.#transposed, x, this.#vector(permutation));
  }
  /** Shares the memory of `x`. */
  reshape(x: Value, shape: readonly number[]): Value {
    return this.#run('Reshape', this.#shaped, x, this.indices(Int32Array.from(shape)));
  }
  /** Of a tensor of any rank. */
  slice(x: Value, begin: readonly number[], size: readonly number[]): Value {
    const [first, sizes] = [this.indices(Int32Array.from(begin)), this.indices(Int32Array.from(size))];
    return this.#run('Slice', this.#sliced, x, first, sizes);
  }
  /** Values of one shape as the slices of a new axis. */
  pack(parts: readonly Value[], axis = 0): Value {
    const { TF_ATTR_INT } = this.#binding;
    const count = { name: 'N', type: TF_ATTR_INT, value: parts.length };
    return this.#run(
      'Pack',
      [count, ...this.#float, { name: 'axis', type: TF_ATTR_INT, value: axis }],
      ...parts,
    );
  }
  /** Slices of `x` along an axis by int32 indices. */
  gather(x: Value, index: Value, axis = 0): Value {
    return this.#run('GatherV2', this.#indexed, x, index, this.#axis(axis));
  }
  /** `x` less `change` in the rows of `index`, in place: nothing else may read `x`, nor what shares its memory. */
  subtractInPlace(x: Value, index: Value, change: Value): Value {
    return this.#run('InplaceSub', this.#float, x, index, change);
  }

  /** Made once and kept for ever. */
  scalar(value: number): Value {
    let scalar = this.#scalars.get(value);
    if (scalar === undefined) {
      scalar = this.floats(Float32Array.of(value), []);
      this.#scalars.set(value, this.keep(scalar));
    }
    return scalar;
  }

  /** A temporary over the memory of `values`, which must not change as long as it lives. */
  floats(values: Float32Array, shape: readonly number[]): Value {
    return { id: this.#binding.createTensor(shape, this.#binding.TF_FLOAT, values), isTemporary: true };
  }

  /** Likewise of int32. */
  indices(values: Int32Array, shape: readonly number[] = [values.length]): Value {
    return { id: this.#binding.createTensor(shape, this.#binding.TF_INT32, values), isTemporary: true };
  }

  /** A small constant, made once. */
  #vector(values: readonly number[]): Value {
    const key = values.join();
    let vector = this.#vectors.get(key);
    if (vector === undefined) {
      vector = this.keep(this.indices(Int32Array.from(values)));
      this.#vectors.set(key, vector);
    }
    return vector;
  }

  #axis(axis: number): Value {
    let scalar = this.#axes.get(axis);
    if (scalar === undefined) {
      scalar = this.keep(this.indices(Int32Array.of(axis), []));
      this.#axes.set(axis, scalar);
    }
    return scalar;
  }

  #run(name: string, attributes: readonly Attribute[], ...inputs: readonly Value[]): Value {
    const ids = inputs.map(({ id }) => id);
    const [output] = this.#binding.executeOp(name, attributes, ids, 1);
    for (const input of inputs) {
      if (!input.isTemporary) continue;
      input.isTemporary = false;
      this.#binding.deleteTensor(input.id);
    }
    return { id: output!.id, isTemporary: true };
  }
}

function pairIndex(first: boolean, second: boolean): number {
  return (first ? 2 : 0) + (second ? 1 : 0);
}
