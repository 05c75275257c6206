/**
 * A binding that records operations instead of running them, and runs all that were recorded as one graph when a
 * value is asked for: the cost of a call per operation is paid once per graph, temporaries are freed and reused by
 * TensorFlow's executor. Beneath tfjs, whose kernels see a binding like any other.
 *
 * Graphs are kept by their structure: operations, attributes, wiring, what is asked for. Shapes are no part of
 * it, because what only gives a shape is an input of the graph. What is run, and so the bits, is a function of what was
 * recorded since values were last read, never of which graphs are there already.
 *
 * Ownership: ids are this class's own. A tensor that was deleted while a recorded operation still reads it
 * lives until that has run.
 */
import { assert } from '../../base/index.ts';
import { isAligned } from '../../memory/index.ts';
import type { Attribute, Binding, TensorMetadata, Values } from './binding.ts';
import { GraphSessions } from './graph-sessions.ts';
import { type Operand, RULES } from './op-shapes.ts';

/** Values of so few elements are looked at for the shapes they give. */
const SMALL = 16;
/** TensorFlow takes memory as it is when it begins at such a multiple, and copies it otherwise. */
const ALIGNED_BYTES = 64;
/** Of fewer floats a copy costs less than the calls. */
const DIRECT_MIN = 4096;
/** So few operations are not worth a graph. */
const AT_ONCE_MAX = 3;

/** A tensor that the program holds, or that a recorded operation reads. */
export interface Entry extends Operand {
  readonly shape: number[];
  /** What the host gave, until TensorFlow has it. */
  host: Values | null;
  /** TensorFlow's handle, once there is one. */
  handle: number | null;
  /** The operation that makes it, until that has run. */
  source: { readonly node: RecordedNode; readonly output: number } | null;
  isHeld: boolean;
}

/** An operation that has not run yet. */
export interface RecordedNode {
  readonly op: string;
  readonly attributes: readonly Attribute[];
  readonly inputs: readonly Entry[];
  readonly outputs: readonly Entry[];
}

export class RecordingBinding {
  readonly #binding: Binding;
  readonly #sessions: GraphSessions;
  readonly #entries = new Map<number, Entry>();
  #nextId = 1;
  #nodes: RecordedNode[] = [];
  /** Deleted by the program, but read by operations that have not run. */
  #dying: Entry[] = [];

  constructor(binding: Binding) {
    this.#binding = binding;
    this.#sessions = new GraphSessions(binding);
  }

  createTensor(shape: readonly number[], dtype: number, values: Values): number {
    const { TF_FLOAT, TF_INT32, TF_BOOL } = this.#binding;
    const isPlain = dtype === TF_FLOAT || dtype === TF_INT32 || dtype === TF_BOOL;
    return this.#hold({
      shape: [...shape],
      dtype,
      values: isPlain && values.length <= SMALL ? values : null,
      host: isPlain ? values : null,
      handle: isPlain ? null : this.#binding.createTensor(shape, dtype, values),
      source: null,
      isHeld: true,
    });
  }

  deleteTensor(id: number): void {
    const entry = this.#entry(id);
    this.#entries.delete(id);
    entry.isHeld = false;
    if (this.#nodes.length > 0) this.#dying.push(entry);
    else this.#free(entry);
  }

  tensorDataSync(id: number): Values {
    const entry = this.#entry(id);
    if (entry.source !== null) this.#run();
    return this.#binding.tensorDataSync(this.#handleOf(entry));
  }

  /**
   * Copies a float32 tensor's values to `target`. Where that is aligned as TensorFlow wants it, TensorFlow writes
   * there itself: without an ArrayBuffer in between, which is cleared first, counted by the garbage collector, and gone
   * right after.
   */
  readInto(id: number, target: Float32Array): void {
    const entry = this.#entry(id);
    if (entry.source !== null) this.#run();
    const handle = this.#handleOf(entry);
    if (target.length < DIRECT_MIN || !isAligned(target, ALIGNED_BYTES)) {
      target.set(this.#binding.tensorDataSync(handle) as Float32Array);
      return;
    }
    const { TF_FLOAT, TF_INT32, TF_ATTR_TYPE } = this.#binding;
    const type = (name: string, value: number) => ({ name, type: TF_ATTR_TYPE, value });
    const float = type('T', TF_FLOAT);
    const row = [1, target.length];
    const shape = this.#binding.createTensor([2], TF_INT32, Int32Array.from(row));
    const place = this.#binding.createTensor([1], TF_INT32, Int32Array.of(0));
    const there = this.#binding.createTensor(row, TF_FLOAT, target);
    const reshape = [float, type('Tshape', TF_INT32)];
    const [values] = this.#binding.executeOp('Reshape', reshape, [handle, shape], 1);
    const [written] = this.#binding.executeOp('InplaceUpdate', [float], [there, place, values!.id], 1);
    for (const used of [shape, place, there, values!.id, written!.id]) this.#binding.deleteTensor(used);
  }

  executeOp(
    op: string,
    attributes: readonly Attribute[],
    ids: readonly number[],
    numOutputs: number,
  ): TensorMetadata[] {
    const inputs = ids.map((id) => this.#entry(id));
    const value = (name: string) => attributes.find((attribute) => attribute.name === name)?.value;
    const outputs = RULES.get(op)?.outputs(inputs, value) ?? null;
    if (outputs === null) return this.#execute(op, attributes, inputs, numOutputs);
    const made = outputs.map(
      ({ shape, dtype }): Entry => ({
        ...{ shape, dtype, values: null, host: null, handle: null, source: null },
        isHeld: true,
      }),
    );
    const node: RecordedNode = { op, attributes, inputs, outputs: made };
    made.forEach((entry, output) => {
      entry.source = { node, output };
    });
    this.#nodes.push(node);
    return made.map((entry) => this.#metadata(entry));
  }

  /** An operation that cannot be recorded, after all that were. */
  #execute(
    op: string,
    attributes: readonly Attribute[],
    inputs: readonly Entry[],
    numOutputs: number,
  ): TensorMetadata[] {
    if (inputs.some(({ source }) => source !== null)) this.#run();
    const handles = inputs.map((entry) => this.#handleOf(entry));
    return this.#binding.executeOp(op, attributes, handles, numOutputs).map(({ id, shape, dtype }) =>
      this.#metadata({
        ...{ shape, dtype, values: null, host: null, handle: id, source: null },
        isHeld: true,
      }),
    );
  }

  /** Runs what was recorded, as far as something that is still held depends on it. */
  #run(): void {
    const nodes = needed(this.#nodes);
    try {
      if (nodes.length <= AT_ONCE_MAX) for (const node of nodes) this.#runAlone(node);
      else this.#sessions.run(nodes, (entry) => this.#handleOf(entry));
    } finally {
      // What failed is not tried again: its tensors hold nothing any more.
      this.#nodes = [];
      for (const entry of this.#dying) this.#free(entry);
      this.#dying = [];
    }
  }

  #runAlone({ op, attributes, inputs, outputs }: RecordedNode): void {
    const handles = inputs.map((entry) => this.#handleOf(entry));
    this.#binding.executeOp(op, attributes, handles, outputs.length).forEach(({ id }, index) => {
      const entry = outputs[index]!;
      entry.handle = id;
      entry.source = null;
      if (!entry.isHeld) this.#dying.push(entry);
    });
  }

  #handleOf(entry: Entry): number {
    if (entry.handle === null) {
      assert(entry.host !== null, 'the operation that makes this tensor has failed');
      entry.handle = this.#binding.createTensor(entry.shape, entry.dtype, entry.host);
      entry.host = null;
    }
    return entry.handle;
  }

  #free(entry: Entry): void {
    if (entry.handle !== null) this.#binding.deleteTensor(entry.handle);
    entry.handle = null;
    entry.host = null;
  }

  #metadata(entry: Entry): TensorMetadata {
    return { id: this.#hold(entry), shape: entry.shape, dtype: entry.dtype };
  }

  #hold(entry: Entry): number {
    const id = this.#nextId;
    this.#nextId += 1;
    this.#entries.set(id, entry);
    return id;
  }

  #entry(id: number): Entry {
    const entry = this.#entries.get(id);
    assert(entry !== undefined, `tensor ${id} is held`);
    return entry;
  }
}

/** The operations that something held depends on, in the order of recording. */
function needed(nodes: readonly RecordedNode[]): RecordedNode[] {
  const found = new Set<RecordedNode>();
  for (let index = nodes.length - 1; index >= 0; index -= 1) {
    const node = nodes[index]!;
    if (!found.has(node) && !node.outputs.some(({ isHeld }) => isHeld)) continue;
    found.add(node);
    for (const { source } of node.inputs) if (source !== null) found.add(source.node);
  }
  return nodes.filter((node) => found.has(node));
}

const recordings = new WeakMap<object, RecordingBinding>();

/**
 * Puts a recording binding beneath a tfjs backend, once however often an engine is loaded; what it does not record
 * goes to the native one.
 */
export function recordOperations(backend: { binding: Binding }): RecordingBinding {
  const known = recordings.get(backend);
  if (known !== undefined) return known;
  const native = backend.binding;
  const recording = new RecordingBinding(native);
  recordings.set(backend, recording);
  const replaced = ['createTensor', 'deleteTensor', 'tensorDataSync', 'executeOp'] as const;
  const properties = replaced.map((name) => [name, { value: recording[name].bind(recording) }]);
  backend.binding = Object.create(native, Object.fromEntries(properties)) as Binding;
  return recording;
}
