/**
 * Python's pickle format, as far as weights need it: numbers, strings, tuples, lists, dictionaries, and objects
 * of a closed list that the caller gives. It executes nothing: a name outside the list ends the reading before
 * anything is made of it. Pure; time and memory are linear in the bytes that are given.
 *
 * Source: Lib/pickletools.py of CPython, protocols 2 to 4.
 */
import { LockstepError } from '../base/index.ts';

/** Makes the object that a listed name stands for; throws `PickleError` when the arguments do not fit. */
export type Construct = (args: readonly unknown[]) => unknown;

export interface PickleReader {
  /** For messages. */
  readonly path: string;
  /** By `module.name`: what a pickle may name. Functions may be called with arguments, other values only be named. */
  readonly globals: ReadonlyMap<string, unknown>;
  /** The object that an id of the file's own stands for. */
  readonly persistent: Construct;
}

/** What is wrong with a pickle; `unpickle` adds where. */
export class PickleError extends Error {}

/** A tensor takes some thirty: enough for six thousand, and BART-large has 510. */
const OPERATIONS_MAX = 200_000;

// Dictionaries are Maps, tuples and lists arrays.
export type PickleDictionary = Map<string | number, unknown>;

/** Reads one pickle that begins at byte `start`. Throws CHECKPOINT_INVALID naming the path and the byte. */
export function unpickle(
  bytes: Uint8Array,
  start: number,
  reader: PickleReader,
): { readonly value: unknown; readonly end: number } {
  const machine = new PickleMachine(bytes, start, reader);
  try {
    return { value: machine.run(), end: machine.position };
  } catch (error) {
    if (!(error instanceof PickleError)) throw error;
    throw new LockstepError(
      'CHECKPOINT_INVALID',
      `${reader.path}: ${error.message} (byte ${machine.operationStart}): save the weights again, as model.safetensors, with the program they come from`,
      { context: { path: reader.path }, cause: error },
    );
  }
}

class PickleMachine {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #reader: PickleReader;
  readonly #memo = new Map<number, unknown>();
  /** What lies below each open mark. */
  readonly #below: unknown[][] = [];
  #stack: unknown[] = [];
  position: number;
  operationStart: number;

  constructor(bytes: Uint8Array, start: number, reader: PickleReader) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#reader = reader;
    this.position = start;
    this.operationStart = start;
  }

  run(): unknown {
    for (let count = 0; count < OPERATIONS_MAX; count += 1) {
      this.operationStart = this.position;
      const operation = String.fromCharCode(this.#u8());
      if (operation === '.') return this.#pop();
      this.#carryOut(operation);
    }
    throw new PickleError(`has more than ${OPERATIONS_MAX} pickle operations, far more than weights need`);
  }

  #carryOut(operation: string): void {
    const stack = this.#stack;
    switch (operation) {
      case '\x80': // PROTO
        this.#protocol(this.#u8());
        return;
      case '\x95': // FRAME
        this.#take(8);
        return;
      case '(': // MARK
        this.#below.push(stack);
        this.#stack = [];
        return;
      case 'N':
        stack.push(null);
        return;
      case '\x88':
        stack.push(true);
        return;
      case '\x89':
        stack.push(false);
        return;
      case 'K': // BININT1
        stack.push(this.#u8());
        return;
      case 'M': // BININT2
        stack.push(this.#at(2).getUint16(0, true));
        return;
      case 'J': // BININT
        stack.push(this.#at(4).getInt32(0, true));
        return;
      case '\x8a': // LONG1
        stack.push(longOf(this.#take(this.#u8())));
        return;
      case 'G': // BINFLOAT
        stack.push(this.#at(8).getFloat64(0, false));
        return;
      case 'X': // BINUNICODE
        stack.push(this.#text(this.#u32()));
        return;
      case '\x8c': // SHORT_BINUNICODE
        stack.push(this.#text(this.#u8()));
        return;
      case 'U': // SHORT_BINSTRING
        stack.push(this.#text(this.#u8()));
        return;
      case ')':
        stack.push([]);
        return;
      case ']':
        stack.push([]);
        return;
      case '}':
        stack.push(new Map());
        return;
      case 't':
      case 'l': {
        const items = this.#popMark();
        this.#stack.push(items);
        return;
      }
      case '\x85':
      case '\x86':
      case '\x87': {
        const items = Array.from({ length: operation.charCodeAt(0) - 0x84 }, () => this.#pop());
        stack.push(items.reverse());
        return;
      }
      case 'a': // APPEND
        this.#extend([this.#pop()]);
        return;
      case 'e': // APPENDS
        this.#extend(this.#popMark());
        return;
      case 's': {
        const value = this.#pop();
        this.#setItems([this.#pop(), value]);
        return;
      }
      case 'u': // SETITEMS
        this.#setItems(this.#popMark());
        return;
      case 'q': // BINPUT
        this.#memo.set(this.#u8(), this.#top());
        return;
      case 'r': // LONG_BINPUT
        this.#memo.set(this.#u32(), this.#top());
        return;
      case '\x94': // MEMOIZE
        this.#memo.set(this.#memo.size, this.#top());
        return;
      case 'h': // BINGET
        this.#recall(this.#u8());
        return;
      case 'j': // LONG_BINGET
        this.#recall(this.#u32());
        return;
      case 'c': // GLOBAL
        this.#name(this.#line(), this.#line());
        return;
      case '\x93': {
        const name = this.#pop();
        this.#name(String(this.#pop()), String(name));
        return;
      }
      case 'R': {
        const args = this.#pop();
        stack.push(this.#call(this.#pop(), args));
        return;
      }
      case 'b': // BUILD: attributes of a dictionary, which say nothing about tensors
        this.#pop();
        if (!(this.#top() instanceof Map)) throw new PickleError('sets attributes of what is no dictionary');
        return;
      case 'Q': // BINPERSID
        stack.push(this.#reader.persistent([this.#pop()]));
        return;
      default: {
        const code = operation.charCodeAt(0).toString(16).padStart(2, '0');
        throw new PickleError(`holds pickle operation 0x${code}, which weights do not need`);
      }
    }
  }

  #protocol(version: number): void {
    if (version < 2 || version > 4) throw new PickleError(`is of pickle protocol ${version}, not 2 to 4`);
  }

  #name(module: string, name: string): void {
    const full = `${module}.${name}`;
    if (!this.#reader.globals.has(full)) {
      throw new PickleError(`names the Python object ${JSON.stringify(full)}, which weights do not need`);
    }
    this.#stack.push(this.#reader.globals.get(full));
  }

  #call(construct: unknown, args: unknown): unknown {
    if (typeof construct !== 'function' || !Array.isArray(args)) {
      throw new PickleError('calls what cannot be called');
    }
    // Functions come from the caller's list only.
    return (construct as Construct)(args);
  }

  #extend(items: readonly unknown[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw new PickleError('appends to what is no list');
    for (const item of items) list.push(item);
  }

  #setItems(items: readonly unknown[]): void {
    const dictionary = this.#top();
    if (!(dictionary instanceof Map) || items.length % 2 !== 0) {
      throw new PickleError('sets items of what is no dictionary');
    }
    for (let index = 0; index < items.length; index += 2) {
      const key = items[index];
      if (typeof key !== 'string' && typeof key !== 'number') {
        throw new PickleError('has a dictionary key that is neither text nor number');
      }
      dictionary.set(key, items[index + 1]);
    }
  }

  #recall(index: number): void {
    if (!this.#memo.has(index)) throw new PickleError(`recalls object ${index}, which it has not stored`);
    this.#stack.push(this.#memo.get(index));
  }

  #top(): unknown {
    if (this.#stack.length === 0) throw new PickleError('takes more from its stack than there is');
    return this.#stack.at(-1);
  }

  #pop(): unknown {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMark(): unknown[] {
    const below = this.#below.pop();
    if (below === undefined) throw new PickleError('closes a mark that it has not opened');
    const items = this.#stack;
    this.#stack = below;
    return items;
  }

  #take(count: number): Uint8Array {
    if (this.position + count > this.#bytes.length) throw new PickleError('is cut short');
    this.position += count;
    return this.#bytes.subarray(this.position - count, this.position);
  }

  #at(count: number): DataView {
    const { byteOffset } = this.#take(count);
    return new DataView(this.#view.buffer, byteOffset, count);
  }

  #u8(): number {
    const byte = this.#bytes[this.position];
    if (byte === undefined) throw new PickleError('is cut short');
    this.position += 1;
    return byte;
  }

  #u32(): number {
    return this.#at(4).getUint32(0, true);
  }

  #text(length: number): string {
    return new TextDecoder().decode(this.#take(length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.position);
    if (end === -1) throw new PickleError('is cut short');
    const text = this.#text(end - this.position);
    this.position = end + 1;
    return text;
  }
}

/** Little-endian two's complement; a bigint beyond what a number holds. */
function longOf(bytes: Uint8Array): number | bigint {
  let value = 0n;
  bytes.forEach((byte, index) => {
    value |= BigInt(byte) << BigInt(8 * index);
  });
  const signed = BigInt.asIntN(8 * bytes.length, value);
  return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed;
}
