/**
 * Rows of parameter tables as inputs of the differentiated function. They are looked up outside of it, and
 * their gradients are added into the tables' on the host, in row order: the same bits on every engine, no
 * scatter-add, whose order GPUs leave open.
 */
import { assert, type ParameterEntry, WHOLE_KERNELS } from '../base/index.ts';
import { fusedKernel, type Tensor, type Tf } from './differentiable.ts';

/** Of float32. */
const SMALLEST_NORMAL = 2 ** -126;

interface Lookup {
  readonly table: ParameterEntry;
  readonly rows: Tensor;
  /** The table's row of each input row, on the device where the function found out; null until it has. */
  ids: Int32Array | Tensor | null;
}

/** The lookups of one pass, in the order in which their gradients are added. */
export class Lookups {
  readonly #tf: Tf;
  readonly #all: Lookup[] = [];

  constructor(tf: Tf) {
    this.#tf = tf;
  }

  /** What the differentiated function is a function of, besides the parameters. */
  get tensors(): Tensor[] {
    return this.#all.map(({ rows }) => rows);
  }

  /** Rows of `values` by id, [ids, D]. */
  gather(table: ParameterEntry, values: Tensor, ids: Int32Array): Tensor {
    const rows = this.#tf.gather(values, this.#tf.tensor1d(ids, 'int32')) as Tensor;
    this.#all.push({ table, rows, ids });
    return rows;
  }

  /** Rows `first .. first + count - 1`, [count, D]. */
  range(table: ParameterEntry, values: Tensor, first: number, count: number): Tensor {
    const rows = this.#tf.slice(values, [first, 0], [count, values.shape[1]!]) as Tensor;
    this.#all.push({ table, rows, ids: Int32Array.from({ length: count }, (_, row) => first + row) });
    return rows;
  }

  /**
   * For `count` rows that the function looks up itself, because only it finds out which: zeros [count, D] that
   * take their gradient. `found` must be called in the forward pass, with ids [count] that stay on the device.
   */
  later(table: ParameterEntry, count: number): { readonly sink: Tensor; found(ids: Tensor): void } {
    const lookup: Lookup = { table, rows: this.#tf.zeros([count, table.shape[1]!]), ids: null };
    this.#all.push(lookup);
    return {
      sink: lookup.rows,
      found: (ids) => {
        lookup.ids = this.#tf.keep(this.#tf.clone(ids));
      },
    };
  }

  /**
   * The same on the device, where there is a kernel for it and with the same bits: into the gradients of the tables, of
   * which `gradientOf` says that of each.
   */
  addOnDevice(grads: readonly (Tensor | null)[], gradientOf: (table: ParameterEntry) => Tensor): void {
    const addRows = fusedKernel(this.#tf, WHOLE_KERNELS.addRows);
    assert(addRows !== null, 'the engine has a kernel that adds rows');
    this.#all.forEach(({ table, ids }, index) => {
      const rows = grads[index];
      if (rows == null) return;
      assert(ids !== null, `the rows of ${table.name} that were looked up are known`);
      const sum = gradientOf(table);
      this.#tf.tidy(() => {
        const places = ids instanceof Int32Array ? this.#tf.tensor1d(ids, 'int32') : ids;
        addRows({ table: sum, rows, ids: places });
      });
    });
  }

  /** Adds the rows of `grads`, one for each of `tensors`, to the gradient in layout order. */
  async addGradients(
    grads: readonly (Float32Array | null | undefined)[],
    target: Float32Array,
  ): Promise<void> {
    // Int32Array by the tensors' type.
    const allIds = await Promise.all(
      this.#all.map(({ ids }) =>
        ids === null || ids instanceof Int32Array ? ids : (ids.data() as Promise<Int32Array>),
      ),
    );
    this.#all.forEach(({ table }, index) => {
      const rows = grads[index];
      if (rows == null) return;
      const ids = allIds[index];
      assert(ids != null, `the rows of ${table.name} that were looked up are known`);
      const values = target.subarray(table.offset, table.offset + table.size);
      const width = table.shape[1]!;
      ids.forEach((id, row) => {
        addRow(values, id, rows, row, width);
      });
    });
  }

  /** Frees the ids that were kept on the device. */
  dispose(): void {
    for (const { ids } of this.#all) if (ids !== null && !(ids instanceof Int32Array)) ids.dispose();
  }
}

/** Subnormals to +0: devices may keep them or not, and the bits are to be the same. */
function flushed(value: number): number {
  return Math.abs(value) < SMALLEST_NORMAL ? 0 : value;
}

/** Adds row `from` of `rows` to row `to` of `table`. */
function addRow(table: Float32Array, to: number, rows: Float32Array, from: number, width: number): void {
  const target = to * width;
  const source = from * width;
  for (let column = 0; column < width; column += 1) {
    const sum = flushed(table[target + column]!) + flushed(rows[source + column]!);
    table[target + column] = flushed(Math.fround(sum));
  }
}
