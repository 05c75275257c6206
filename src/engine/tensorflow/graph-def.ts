/**
 * A TensorFlow graph as the bytes of a SavedModel without variables: saved_model.proto, meta_graph.proto,
 * graph.proto, node_def.proto, attr_value.proto, tensor.proto, of which the fields used are numbered here. Pure.
 */
import { bytesField, message, varintField } from '../../base/index.ts';
import type { Attribute, Binding } from './binding.ts';

export const TAG = 'serve';
const SCHEMA_VERSION = 1;
/** Of the graph's format: the lowest that knows all operations used. */
const PRODUCER = 1087;

export interface GraphNode {
  readonly name: string;
  readonly op: string;
  /** `node` or `node:output`. */
  readonly inputs: readonly string[];
  /** Attributes by name, each the bytes of an AttrValue. */
  readonly attributes: readonly (readonly [string, Uint8Array])[];
}

export function savedModel(nodes: readonly GraphNode[]): Uint8Array {
  const graph = message(
    ...nodes.map((node) => bytesField(1, nodeDef(node))),
    bytesField(4, varintField(1, PRODUCER)),
  );
  const metaGraph = message(bytesField(1, bytesField(4, TAG)), bytesField(2, graph));
  return message(varintField(1, SCHEMA_VERSION), bytesField(2, metaGraph));
}

/** A node whose value is given at each run. */
export function placeholder(name: string, dtype: number): GraphNode {
  return { name, op: 'Placeholder', inputs: [], attributes: [['dtype', typeValue(dtype)]] };
}

/** A node of fixed value. */
export function constant(
  name: string,
  dtype: number,
  shape: readonly number[],
  values: ArrayBufferView,
): GraphNode {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const dims = shape.map((side) => bytesField(2, varintField(1, side)));
  const tensor = message(varintField(1, dtype), bytesField(2, message(...dims)), bytesField(4, bytes));
  return {
    name,
    op: 'Const',
    inputs: [],
    attributes: [
      ['dtype', typeValue(dtype)],
      ['value', bytesField(8, tensor)],
    ],
  };
}

export function attributeValue(binding: Binding, { type, value }: Attribute): Uint8Array {
  switch (type) {
    case binding.TF_ATTR_TYPE:
      return typeValue(value as number);
    case binding.TF_ATTR_BOOL:
      return varintField(5, value ? 1 : 0);
    case binding.TF_ATTR_INT:
      return varintField(3, value as number);
    case binding.TF_ATTR_STRING:
      return bytesField(2, value as string);
    default:
      throw new Error(`attribute of type ${type} is not known to graphs`);
  }
}

function typeValue(dtype: number): Uint8Array {
  return varintField(6, dtype);
}

function nodeDef({ name, op, inputs, attributes }: GraphNode): Uint8Array {
  return message(
    bytesField(1, name),
    bytesField(2, op),
    ...inputs.map((input) => bytesField(3, input)),
    ...attributes.map(([key, value]) => bytesField(5, message(bytesField(1, key), bytesField(2, value)))),
  );
}
