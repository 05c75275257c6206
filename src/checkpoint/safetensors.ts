/**
 * The header of a safetensors file, written and read strictly:
 * `[u64 little-endian header bytes][JSON, padded with spaces][data]`. Pure; the bytes of the data
 * section never come here.
 *
 * A file of ours holds float32 tensors end to end in layout order, so its data section *is* the flat
 * vector: float `i` lies at `dataStart + 4 * i`. Files of others may list their tensors in any order;
 * the layout follows the data. Source: the format description of huggingface/safetensors.
 */
import { z } from 'zod';
import { assert, LockstepError, layoutSize, messageOf, type ParameterLayout } from '../base/index.ts';

export const FLOAT_BYTES = 4;
/** Bytes of the length that opens a file. */
export const LENGTH_BYTES = 8;
/** The reference implementation's bound; it keeps a damaged length from asking for all memory. */
const HEADER_BYTES_MAX = 100_000_000;
const ALIGNMENT = 8;
const METADATA_KEY = '__metadata__';
const OPENING_BRACE = 0x7b;

export type TensorMetadata = Readonly<Record<string, string>>;

export interface TensorHeader {
  /** Tensors in the order of their data; offsets in floats from the start of the data section. */
  readonly layout: ParameterLayout;
  /** Free text pairs; empty when the file has none. */
  readonly metadata: TensorMetadata;
  /** Position of the data section within the file, in bytes. */
  readonly dataStart: number;
}

const tensorSchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(z.int().min(0)),
  data_offsets: z.tuple([z.int().min(0), z.int().min(0)]),
});

/** Everything of a file before its data: length, JSON and padding. The layout must be gapless from 0. */
export function encodeTensorHeader(layout: ParameterLayout, metadata: TensorMetadata = {}): Uint8Array {
  const members: string[] = [];
  if (Object.keys(metadata).length > 0) members.push(member(METADATA_KEY, metadata));
  const names = new Set<string>([METADATA_KEY]);
  let end = 0;
  for (const { name, shape, offset, size } of layout) {
    assert(!names.has(name), `tensor name "${name}" is taken`);
    assert(offset === end, `tensor "${name}" starts at float ${offset}, not at ${end}`);
    assert(size === elementsOf(shape), `tensor "${name}" of shape [${shape}] has size ${size}`);
    names.add(name);
    end = offset + size;
    const data_offsets = [offset * FLOAT_BYTES, end * FLOAT_BYTES];
    members.push(member(name, { dtype: 'F32', shape, data_offsets }));
  }
  // Joined by hand: an object would reorder names that look like integers.
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const headerBytes = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  assert(headerBytes <= HEADER_BYTES_MAX, `safetensors header of ${headerBytes} bytes`);
  const prefix = new Uint8Array(LENGTH_BYTES + headerBytes).fill(0x20);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(headerBytes), true);
  prefix.set(json, LENGTH_BYTES);
  return prefix;
}

function member(key: string, value: unknown): string {
  return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

/**
 * How many bytes of a file its header takes, length included: what to read before parsing.
 * `prefix` holds the file's first bytes. Throws CHECKPOINT_INVALID.
 */
export function tensorHeaderBytes(prefix: Uint8Array, fileBytes: number, path: string): number {
  if (fileBytes < LENGTH_BYTES) throw invalid(path, `holds ${fileBytes} bytes, too few for a header`);
  assert(prefix.length >= LENGTH_BYTES, 'prefix without the header length');
  const headerBytes = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (headerBytes > HEADER_BYTES_MAX) {
    throw invalid(path, `header length ${headerBytes} exceeds ${HEADER_BYTES_MAX} bytes`);
  }
  const bytes = LENGTH_BYTES + Number(headerBytes);
  if (bytes > fileBytes) throw invalid(path, `header ends at byte ${bytes}, the file at ${fileBytes}`);
  return bytes;
}

/**
 * Reads the header of a float32 file from its first bytes (at least `tensorHeaderBytes` of them) and checks it
 * against the file's size. Throws CHECKPOINT_INVALID, naming `path` and the tensor.
 */
export function parseTensorHeader(prefix: Uint8Array, fileBytes: number, path: string): TensorHeader {
  const { tensors, metadata, dataStart } = parseTensorIndex(prefix, fileBytes, path, { F32: FLOAT_BYTES });
  const layout = tensors.map(({ name, shape, first, last }) => ({
    ...{ name, shape, offset: first / FLOAT_BYTES, size: (last - first) / FLOAT_BYTES },
  }));
  assert(layoutSize(layout) * FLOAT_BYTES === fileBytes - dataStart, 'parsed layout covers the data');
  return { layout, metadata, dataStart };
}

/** Where the tensors of a file lie, whatever their types. */
export interface TensorIndex extends Omit<TensorHeader, 'layout'> {
  /** In the order of their data, without gaps. */
  readonly tensors: readonly TensorSpan[];
}

/** The same for a file with other number types: `types` are those that are allowed, with the bytes of a number. */
export function parseTensorIndex(
  prefix: Uint8Array,
  fileBytes: number,
  path: string,
  types: Readonly<Record<string, number>>,
): TensorIndex {
  const dataStart = tensorHeaderBytes(prefix, fileBytes, path);
  assert(prefix.length >= dataStart, `prefix of ${prefix.length} bytes for a header of ${dataStart}`);
  const { metadata, tensors } = parseJson(prefix.subarray(LENGTH_BYTES, dataStart), path, types);
  let end = 0;
  for (const { name, first, last } of tensors) {
    if (first < end) throw invalid(path, `tensor "${name}" overlaps the one before it at data byte ${first}`);
    if (first > end)
      throw invalid(path, `data bytes ${end} to ${first}, before tensor "${name}", are unused`);
    end = last;
  }
  if (dataStart + end !== fileBytes) {
    const fault = dataStart + end > fileBytes ? 'is cut short' : 'has bytes after its last tensor';
    throw invalid(path, `${fault}: ${fileBytes} bytes instead of ${dataStart + end}`);
  }
  return { tensors, metadata, dataStart };
}

export interface TensorSpan {
  readonly name: string;
  /** `F32`, `BF16`, ... */
  readonly type: string;
  readonly shape: readonly number[];
  /** Data bytes `first` to `last`, exclusive. */
  readonly first: number;
  readonly last: number;
}

function parseJson(
  bytes: Uint8Array,
  path: string,
  types: Readonly<Record<string, number>>,
): { metadata: TensorMetadata; tensors: TensorSpan[] } {
  if (bytes[0] !== OPENING_BRACE) throw invalid(path, 'header does not begin with "{"');
  let text: string;
  let header: Record<string, unknown>;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    // A text that begins with "{" parses to an object or not at all.
    header = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw invalid(path, `header is not JSON (${messageOf(error)})`, error);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) throw invalid(path, `header names "${duplicate}" twice`);
  let metadata: TensorMetadata = {};
  const tensors: TensorSpan[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA_KEY) {
      if (!isMetadata(value)) throw invalid(path, `${METADATA_KEY} is not a map of strings`);
      metadata = value;
    } else {
      tensors.push(parseTensor(name, value, path, types));
    }
  }
  // Ends break the tie of an empty tensor with the one that starts where it lies.
  tensors.sort((a, b) => a.first - b.first || a.last - b.last);
  return { metadata, tensors };
}

/** By hand, for a zod record would drop a key named `__proto__`. */
function isMetadata(value: unknown): value is TensorMetadata {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((text) => typeof text === 'string');
}

function parseTensor(
  name: string,
  value: unknown,
  path: string,
  types: Readonly<Record<string, number>>,
): TensorSpan {
  const parsed = tensorSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(path, `tensor "${name}", ${issue.path.join('.') || 'entry'}: ${issue.message}`);
  }
  const { dtype, shape, data_offsets } = parsed.data;
  const [first, last] = data_offsets;
  if (!Object.hasOwn(types, dtype)) {
    const readable = Object.keys(types).join(', ');
    throw invalid(path, `tensor "${name}" is of type ${dtype}; only ${readable} can be read`);
  }
  const bytes = elementsOf(shape) * types[dtype]!;
  if (!Number.isSafeInteger(bytes)) throw invalid(path, `tensor "${name}": shape [${shape}] is too large`);
  if (last - first !== bytes) {
    throw invalid(path, `tensor "${name}": shape [${shape}] takes ${bytes} bytes, not ${last - first}`);
  }
  return { name, type: dtype, shape, first, last };
}

/** The first key that an object of this (valid) JSON text repeats; `JSON.parse` silently keeps the last. */
function findDuplicateKey(json: string): string | null {
  const open: Set<string>[] = [];
  let string = '';
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}:]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '}') open.pop();
    else if (token !== ':') string = token;
    else {
      const key: string = JSON.parse(string);
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return null;
}

function invalid(path: string, what: string, cause?: unknown): LockstepError {
  return new LockstepError(
    'CHECKPOINT_INVALID',
    `${path}: ${what}; take another checkpoint, or copy or convert the file again (float32 safetensors)`,
    { context: { path }, cause },
  );
}
