/**
 * Recorded operations against the same ones run at once, on TensorFlow itself: shapes, types and values; what is kept,
 * freed and shared; what happens when one fails.
 */
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadEngine, probeEngine } from '../../src/engine/index.ts';
import type { Attribute, Binding, Values } from '../../src/engine/tensorflow/binding.ts';
import { RULES } from '../../src/engine/tensorflow/op-shapes.ts';
import { RecordingBinding } from '../../src/engine/tensorflow/recording.ts';
import { mapPrivate, viewOf } from '../../src/memory/index.ts';

/** Graphs are fused and folded before they run, so a value may be rounded otherwise. */
const TOLERANCE = 1e-6;

const probe = await probeEngine('tensorflow');

/** One operation with operands: [shape, values], or [shape] for floats made up here. */
interface Example {
  readonly op: string;
  readonly attributes: readonly (readonly [string, 'type' | 'bool' | 'int', number | boolean | string])[];
  readonly operands: readonly (readonly [number[], Int32Array?])[];
  readonly numOutputs?: number;
}

const FLOAT = ['T', 'type', 'float'] as const;
const ints = (...values: number[]): [number[], Int32Array] => [[values.length], Int32Array.from(values)];
const int = (value: number): [number[], Int32Array] => [[], Int32Array.of(value)];
const TIDX = ['Tidx', 'type', 'int32'] as const;

const unary = (op: string): Example => ({ op, attributes: [FLOAT], operands: [[[3, 4]]] });
const binary = (op: string): Example[] => [
  { op, attributes: [FLOAT], operands: [[[3, 1, 4]], [[5, 1]]] },
  { op, attributes: [FLOAT], operands: [[[4]], [[2, 3, 4]]] },
  { op, attributes: [FLOAT], operands: [[[3, 4]], [[]]] },
];
const reduced = (op: string): Example[] =>
  [true, false].flatMap((keep) => [
    { op, attributes: [['keep_dims', 'bool', keep], FLOAT, TIDX], operands: [[[3, 4, 2]], ints(-1)] },
    { op, attributes: [['keep_dims', 'bool', keep], FLOAT, TIDX], operands: [[[3, 4, 2]], ints(0, 2)] },
  ]);

const EXAMPLES: readonly Example[] = [
  ...['Square', 'Neg', 'Exp', 'Erf', 'Rsqrt', 'Sqrt', 'Log', 'Tanh', 'Softmax', 'LogSoftmax'].map(unary),
  ...['Add', 'AddV2', 'Sub', 'Mul', 'Div', 'RealDiv', 'Maximum', 'Minimum'].flatMap(binary),
  ...['Sum', 'Mean', 'Max', 'Min'].flatMap(reduced),
  ...[false, true].flatMap((a) =>
    [false, true].map((b): Example => {
      const operands: [number[]][] = [[a ? [4, 3] : [3, 4]], [b ? [5, 4] : [4, 5]]];
      return {
        op: 'MatMul',
        attributes: [FLOAT, ['transpose_a', 'bool', a], ['transpose_b', 'bool', b]],
        operands,
      };
    }),
  ),
  {
    op: 'BatchMatMulV2',
    attributes: [FLOAT, ['adj_x', 'bool', false], ['adj_y', 'bool', true]],
    operands: [[[2, 1, 3, 4]], [[3, 5, 4]]],
  },
  { op: 'BiasAdd', attributes: [FLOAT], operands: [[[3, 4]], [[4]]] },
  { op: 'BiasAddGrad', attributes: [FLOAT], operands: [[[3, 4]]] },
  {
    op: 'InplaceSub',
    attributes: [FLOAT],
    operands: [[[4, 2]], ints(2, 0), [[2, 2]]],
  },
  { op: 'Reshape', attributes: [FLOAT, ['Tshape', 'type', 'int32']], operands: [[[3, 4]], ints(2, -1, 3)] },
  {
    op: 'Transpose',
    attributes: [FLOAT, ['Tperm', 'type', 'int32']],
    operands: [[[2, 3, 4]], ints(2, 0, 1)],
  },
  ...[0, 1].map(
    (axis): Example => ({
      op: 'GatherV2',
      attributes: [
        ['batch_dims', 'int', 0],
        ...(['Tparams', 'Tindices', 'Taxis'] as const).map(
          (name) => [name, 'type', name === 'Tparams' ? 'float' : 'int32'] as const,
        ),
      ],
      operands: [[[4, 3]], ints(2, 0, 2), int(axis)],
    }),
  ),
  {
    op: 'GatherNd',
    attributes: [
      ['Tparams', 'type', 'float'],
      ['Tindices', 'type', 'int32'],
    ],
    operands: [[[4, 3]], [[2, 2], Int32Array.of(3, 1, 0, 2)]],
  },
  ...[0, -1].map(
    (axis): Example => ({
      op: 'ConcatV2',
      attributes: [['N', 'int', 2], FLOAT, TIDX],
      operands: [[[2, 3]], [[2, 3]], int(axis)],
    }),
  ),
  {
    op: 'Slice',
    attributes: [FLOAT, ['Index', 'type', 'int32']],
    operands: [[[3, 4]], ints(1, 0), ints(-1, 2)],
  },
  { op: 'Tile', attributes: [FLOAT, ['Tmultiples', 'type', 'int32']], operands: [[[2, 3]], ints(2, 1)] },
  {
    op: 'SplitV',
    attributes: [['num_split', 'int', 2], FLOAT, ['Tlen', 'type', 'int32']],
    operands: [[[2, 5]], ints(2, 3), int(1)],
    numOutputs: 2,
  },
  { op: 'Pack', attributes: [['N', 'int', 2], FLOAT, ['axis', 'int', 1]], operands: [[[3, 4]], [[3, 4]]] },
  {
    op: 'OneHot',
    attributes: [['axis', 'int', -1], FLOAT, ['TI', 'type', 'int32']],
    operands: [ints(2, 0), int(3), [[]], [[]]],
  },
  {
    op: 'ArgMax',
    attributes: [FLOAT, TIDX, ['output_type', 'type', 'int32']],
    operands: [[[3, 4]], int(-1)],
  },
  {
    op: 'Cast',
    attributes: [
      ['SrcT', 'type', 'float'],
      ['DstT', 'type', 'int32'],
      ['Truncate', 'bool', false],
    ],
    operands: [[[3, 4]]],
  },
];

describe.skipIf(!probe.available)('a recording binding', () => {
  let native: Binding;
  /** The native one, with its graphs counted. */
  let counted: Binding;
  let loads: string[];
  let recording: RecordingBinding;

  beforeAll(async () => {
    const { tf } = await loadEngine('tensorflow', { threads: 1, device: null });
    // What the engine put on top has the native one as its prototype.
    native = Object.getPrototypeOf((tf.backend() as unknown as { binding: Binding }).binding) as Binding;
  }, 60_000);

  beforeEach(() => {
    loads = [];
    const loadSavedModel: Binding['loadSavedModel'] = (folder, tags) => {
      loads.push(folder);
      return native.loadSavedModel(folder, tags);
    };
    counted = Object.create(native, { loadSavedModel: { value: loadSavedModel } }) as Binding;
    recording = new RecordingBinding(counted);
  });

  const floats = (shape: readonly number[]) =>
    Float32Array.from(
      { length: shape.reduce((size, side) => size * side, 1) },
      (_, at) => 0.1 + ((at * 7) % 11) / 5,
    );

  const attributesOf = ({ attributes }: Example): Attribute[] => {
    const types = { float: native.TF_FLOAT, int32: native.TF_INT32 };
    return attributes.map(([name, kind, value]) => {
      if (kind === 'type')
        return { name, type: native.TF_ATTR_TYPE, value: types[value as keyof typeof types] };
      return {
        name,
        type: kind === 'bool' ? native.TF_ATTR_BOOL : native.TF_ATTR_INT,
        value: value as number,
      };
    });
  };

  /** Runs an example on either binding, behind so many operations that a graph is worth it. */
  const computed = (on: Pick<Binding, 'createTensor' | 'executeOp' | 'tensorDataSync'>, example: Example) => {
    const one = on.createTensor([], native.TF_FLOAT, Float32Array.of(1));
    const type = [{ name: 'T', type: native.TF_ATTR_TYPE, value: native.TF_FLOAT }];
    const made = example.operands.map(([shape, values]) => {
      if (values !== undefined) return on.createTensor(shape, native.TF_INT32, values);
      let id = on.createTensor(shape, native.TF_FLOAT, floats(shape));
      for (let round = 0; round < 4; round += 1) id = on.executeOp('Mul', type, [id, one], 1)[0]!.id;
      return id;
    });
    const outputs = on.executeOp(example.op, attributesOf(example), made, example.numOutputs ?? 1);
    return outputs.map(({ id, shape, dtype }) => ({ shape, dtype, values: on.tensorDataSync(id) }));
  };

  it('has an example of every operation that it records', () => {
    expect([...new Set(EXAMPLES.map(({ op }) => op))].sort()).toEqual([...RULES.keys()].sort());
  });

  it.each(EXAMPLES.map((example) => [`${example.op} ${JSON.stringify(example.operands)}`, example] as const))(
    'computes %s as TensorFlow does',
    (_, example) => {
      const expected = computed(native, example);
      const found = computed(recording, example);
      expect(loads.length).toBeLessThanOrEqual(1);
      expect(found.map(({ shape, dtype }) => ({ shape, dtype }))).toEqual(
        expected.map(({ shape, dtype }) => ({ shape: [...shape], dtype })),
      );
      found.forEach(({ values }, output) => {
        [...values].forEach((value, at) => {
          const wanted = expected[output]!.values[at]!;
          expect(Math.abs(value - wanted)).toBeLessThanOrEqual(TOLERANCE * Math.max(1, Math.abs(wanted)));
        });
      });
    },
  );

  const float = () => [{ name: 'T', type: native.TF_ATTR_TYPE, value: native.TF_FLOAT }];
  const vector = (...values: number[]) =>
    recording.createTensor([values.length], native.TF_FLOAT, Float32Array.from(values));
  const apply = (op: string, ...inputs: number[]) => recording.executeOp(op, float(), inputs, 1)[0]!.id;
  const read = (id: number): Values => recording.tensorDataSync(id);

  /** ((((x + y) y) + y) y), each temporary deleted as soon as it was read; 4 operations. */
  const chain = (x: number, y: number) =>
    ['AddV2', 'Mul', 'AddV2', 'Mul'].reduce((id, op) => {
      const next = apply(op, id, y);
      recording.deleteTensor(id);
      return next;
    }, x);

  it('reads operands that were deleted before anything ran', () => {
    const y = vector(2, 3);
    const result = chain(vector(1, 10), y);
    recording.deleteTensor(y);
    expect([...read(result)]).toEqual([16, 126]);
  });

  it('makes one graph for one structure, whatever the shapes and values', () => {
    for (const length of [1, 2, 5]) {
      const values = Array.from({ length }, (_, at) => at);
      expect(read(chain(vector(...values), vector(...values))).length).toBe(length);
    }
    expect(loads.length).toBe(1);
  });

  it('makes another where something else is held', () => {
    const y = vector(1, 1);
    const x = vector(2, 4);
    const sum = apply('AddV2', x, y);
    const last = ['Mul', 'AddV2', 'Mul'].reduce((id, op) => apply(op, id, y), sum);
    expect([...read(last)]).toEqual([4, 6]);
    expect([...read(sum)]).toEqual([3, 5]);
    expect(loads.length).toBe(1);
    recording.deleteTensor(sum);
    expect([...read(chain(x, y))]).toEqual([4, 6]);
    expect(loads.length).toBe(2);
  });

  it('leaves out what nobody holds', () => {
    const x = vector(1, 2);
    const forgotten = apply('Log', x);
    recording.deleteTensor(forgotten);
    expect([...read(apply('Square', x))]).toEqual([1, 4]);
    expect(loads).toEqual([]);
  });

  it("reads into memory of the caller's, aligned for TensorFlow or not, and nothing beside it", () => {
    const length = 5000;
    const expected = Float32Array.from({ length }, (_, at) => 4 * at + 12);
    const ys = Float32Array.from({ length }, () => 2);
    const bytes = 65_536;
    const mapped = viewOf(mapPrivate(bytes), bytes);
    for (const at of [0, 16, 5, 64]) {
      const around = new Float32Array(mapped).fill(-1);
      const x = recording.createTensor(
        [50, 100],
        native.TF_FLOAT,
        Float32Array.from({ length }, (_, i) => i),
      );
      const y = recording.createTensor([50, 100], native.TF_FLOAT, ys);
      recording.readInto(chain(x, y), around.subarray(at, at + length));
      expect(around.subarray(at, at + length)).toEqual(expected);
      expect(around.subarray(0, at).every((value) => value === -1)).toBe(true);
      expect(around.subarray(at + length).every((value) => value === -1)).toBe(true);
    }
  });

  it('goes on after an operation that failed, whose tensors hold nothing', () => {
    const table = vector(1, 2, 3);
    const outside = recording.createTensor([1], native.TF_INT32, Int32Array.of(7));
    const axis = recording.createTensor([], native.TF_INT32, Int32Array.of(0));
    const attributes = attributesOf(EXAMPLES.find(({ op }) => op === 'GatherV2')!);
    const [picked] = recording.executeOp('GatherV2', attributes, [table, outside, axis], 1);
    expect(() => read(picked!.id)).toThrow(/not in \[0, 3\)/);
    expect(() => read(picked!.id)).toThrow(/has failed/);
    recording.deleteTensor(picked!.id);
    expect([...read(chain(vector(1), vector(2)))]).toEqual([16]);
  });

  it('keeps a bounded number of graphs, and makes a forgotten one anew', () => {
    const long = (length: number) => {
      const one = vector(1);
      return [...read(Array.from({ length }).reduce<number>((id) => apply('AddV2', id, one), vector(0)))];
    };
    for (let length = 4; length < 74; length += 1) expect(long(length)).toEqual([length]);
    expect(loads.length).toBe(70);
    expect(long(73)).toEqual([73]);
    expect(loads.length).toBe(70);
    expect(long(4)).toEqual([4]);
    expect(loads.length).toBe(71);
  });

  it('gives an operation that it does not know to TensorFlow, after those that it reads', () => {
    const rounded = recording.executeOp('Floor', float(), [chain(vector(0.25), vector(2))], 1)[0]!;
    expect([...read(rounded.id)]).toEqual([13]);
  });

  it('refuses an id that is not held', () => {
    const x = vector(1);
    recording.deleteTensor(x);
    expect(() => read(x)).toThrow(/is held/);
  });
});
