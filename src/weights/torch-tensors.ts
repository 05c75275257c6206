/**
 * What a file of `torch.save` says: the closed list of Python objects that a state dictionary consists of, and
 * where in the file its tensors lie. Pure; the containers are torch-zip.ts and torch-legacy.ts.
 *
 * Source: torch/serialization.py and torch/_utils.py of PyTorch.
 */
import { LockstepError } from '../base/index.ts';
import { PickleError, type PickleReader } from './pickle.ts';
import { elementsOf, type StoredTensor, type TensorType, TYPE_BYTES } from './tensor-archive.ts';

const STORAGE_TYPES: Readonly<Record<string, TensorType>> = {
  ...{ FloatStorage: 'F32', HalfStorage: 'F16', BFloat16Storage: 'BF16', DoubleStorage: 'F64' },
  ...{ LongStorage: 'I64', IntStorage: 'I32', ShortStorage: 'I16', CharStorage: 'I8' },
  ...{ ByteStorage: 'U8', BoolStorage: 'BOOL' },
};
/** BART has two; a shape is read once for each tensor that names it. */
const DIMENSIONS_MAX = 8;
/** Tensors or names that a message lists. */
const LISTED_MAX = 20;

/** A run of numbers that tensors are parts of, as the pickle names it. */
export class Storage {
  readonly key: string;
  readonly type: TensorType;
  /** Numbers. */
  readonly size: number;

  constructor(key: string, type: TensorType, size: number) {
    this.key = key;
    this.type = type;
    this.size = size;
  }

  get bytes(): number {
    return this.size * TYPE_BYTES[this.type];
  }
}

class TensorPart {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];

  constructor(storage: Storage, offset: number, shape: readonly number[], stride: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.stride = stride;
  }
}

class StorageType {
  readonly type: TensorType;

  constructor(type: TensorType) {
    this.type = type;
  }
}

const GLOBALS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ['collections.OrderedDict', newDictionary],
  ['torch._utils._rebuild_tensor', rebuildTensor],
  ['torch._utils._rebuild_tensor_v2', rebuildTensor],
  ['torch._utils._rebuild_parameter', ([tensor]: readonly unknown[]) => tensor],
  ['torch.Size', ([sides]: readonly unknown[]) => sides],
  ...Object.entries(STORAGE_TYPES).map(([name, type]) => [`torch.${name}`, new StorageType(type)] as const),
]);

/** Reads the pickles of one file; `storages` collects what they name. */
export function torchPickleReader(path: string, storages: Map<string, Storage>): PickleReader {
  const persistent = ([id]: readonly unknown[]) => {
    const storage = storageOf(id);
    const known = storages.get(storage.key);
    if (known === undefined) storages.set(storage.key, storage);
    else if (known.type !== storage.type || known.size !== storage.size) {
      throw new PickleError(`describes storage ${JSON.stringify(storage.key)} in two ways`);
    }
    return known ?? storage;
  };
  return { path, globals: GLOBALS, persistent };
}

/** ('storage', type, key, device, numbers), and in the old format a view, which is null. */
function storageOf(id: unknown): Storage {
  const fits = Array.isArray(id) && id[0] === 'storage' && id[1] instanceof StorageType;
  if (!fits) throw new PickleError('refers to an object that is no storage of a known type');
  const [, { type }, key, , size, view = null] = id as [
    string,
    StorageType,
    unknown,
    unknown,
    unknown,
    unknown,
  ];
  if (typeof key !== 'string' || !isCount(size) || view !== null) {
    throw new PickleError('describes a storage in a way that cannot be read');
  }
  return new Storage(key, type, size);
}

function newDictionary(args: readonly unknown[]): unknown {
  if (args.length > 0) throw new PickleError('makes a dictionary in a way that cannot be read');
  return new Map();
}

function rebuildTensor([storage, offset, shape, stride]: readonly unknown[]): TensorPart {
  const fits = storage instanceof Storage && isCount(offset) && isCounts(shape) && isCounts(stride);
  if (!fits || shape.length !== stride.length)
    throw new PickleError('describes a tensor in a way that cannot be read');
  return new TensorPart(storage, offset, shape, stride);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= DIMENSIONS_MAX && value.every(isCount);
}

/** Where a storage lies in the file. */
export interface StoragePlace {
  readonly position: number;
  readonly bytes: number;
}

/**
 * The tensors of a state dictionary. Throws CHECKPOINT_INVALID naming what is none, a tensor whose storage is
 * missing or too short, or whose numbers do not lie in row-major order.
 */
export function stateTensors(
  state: unknown,
  places: ReadonlyMap<string, StoragePlace>,
  path: string,
): StoredTensor[] {
  if (!(state instanceof Map)) throw invalid(path, 'holds no dictionary of tensors');
  const tensors: StoredTensor[] = [];
  const faults: string[] = [];
  for (const [name, part] of state) {
    const fault = part instanceof TensorPart ? faultOf(part, places.get(part.storage.key)) : 'is no tensor';
    if (fault !== null) faults.push(`${name} ${fault}`);
    else {
      const { storage, offset, shape } = part as TensorPart;
      const { type, key } = storage;
      const position = places.get(key)!.position + offset * TYPE_BYTES[type];
      tensors.push({ name: String(name), type, shape, position });
    }
  }
  if (faults.length === 0) return tensors;
  const more = faults.length > LISTED_MAX ? ` and ${faults.length - LISTED_MAX} more` : '';
  throw invalid(path, `${faults.slice(0, LISTED_MAX).join('; ')}${more}`);
}

function faultOf(
  { storage, offset, shape, stride }: TensorPart,
  place: StoragePlace | undefined,
): string | null {
  if (place === undefined) return `lies in storage ${JSON.stringify(storage.key)}, which is missing`;
  if (place.bytes !== storage.bytes) {
    return `lies in storage ${JSON.stringify(storage.key)} of ${place.bytes} bytes instead of ${storage.bytes}`;
  }
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
    if (shape[axis] !== 1 && stride[axis] !== expected) return 'does not lie in row-major order';
    expected *= shape[axis]!;
  }
  return offset + elementsOf(shape) > storage.size ? 'reaches beyond its storage' : null;
}

export function invalid(path: string, what: string, cause?: unknown): LockstepError {
  return new LockstepError(
    'CHECKPOINT_INVALID',
    `${path}: ${what}: copy the file again, or save the weights as model.safetensors`,
    { context: { path }, cause },
  );
}
