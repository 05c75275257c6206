/** The pickle reader executes nothing and makes nothing but what weights need, whatever the bytes say. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LockstepError } from '../../../src/base/index.ts';
import { unpickle } from '../../../src/weights/pickle.ts';
import { type Storage, torchPickleReader } from '../../../src/weights/torch-tensors.ts';

/** Operations by hand; texts become BINUNICODE. */
function pickle(...parts: (string | number | { text: string })[]): Uint8Array {
  const bytes = parts.map((part) => {
    if (typeof part === 'number') return Buffer.of(part);
    if (typeof part === 'string') return Buffer.from(part, 'latin1');
    const text = Buffer.from(part.text);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    return Buffer.concat([Buffer.from('X'), length, text]);
  });
  return new Uint8Array(Buffer.concat([Buffer.from('\x80\x02', 'latin1'), ...bytes]));
}

function read(bytes: Uint8Array): unknown {
  return unpickle(bytes, 0, torchPickleReader('w.bin', new Map<string, Storage>())).value;
}

function refusalOf(bytes: Uint8Array): string {
  try {
    read(bytes);
  } catch (error) {
    if (error instanceof LockstepError && error.code === 'CHECKPOINT_INVALID') return error.message;
    throw error;
  }
  return 'accepted';
}

describe('what weights are made of', () => {
  it('numbers, texts, tuples, lists and dictionaries', () => {
    const bytes = pickle('}', '(', { text: 'a' }, 'K', 7, { text: 'é' }, 'J', '\xfe\xff\xff\xff', 'u.');
    expect(read(bytes)).toEqual(
      new Map<string, number>([
        ['a', 7],
        ['é', -2],
      ]),
    );
    expect(read(pickle('(', 'K\x01', 'M\x00\x02', 'N', '\x88', 't.'))).toEqual([1, 512, null, true]);
    expect(read(pickle(']', '(', 'K\x01', 'K\x02', 'e.'))).toEqual([1, 2]);
    expect(read(pickle('\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.'))).toBe(0x1950a86a20f9469cfc6cn);
    expect(read(pickle('\x8a\x01\xff.'))).toBe(-1);
  });

  it('objects that were stored before', () => {
    expect(read(pickle(']', 'q\x05', 'h\x05', '\x86.'))).toEqual([[], []]);
  });
});

describe('what is refused', () => {
  it.each([
    [
      'os.system',
      pickle('cos\nsystem\n', { text: 'echo' }, '\x85R.'),
      /names the Python object "os\.system"/,
    ],
    ['a builtin', pickle('c__builtin__\neval\n', { text: '1' }, '\x85R.'), /"__builtin__\.eval"/],
    ['a name from the stack', pickle({ text: 'posix' }, { text: 'system' }, '\x93.'), /"posix\.system"/],
    ['torch.load itself', pickle('ctorch.serialization\nload\n', ')R.'), /"torch\.serialization\.load"/],
    ['a name of JavaScript', pickle('cconstructor\nconstructor\n', ')R.'), /"constructor\.constructor"/],
    ['an object made by class', pickle('ccollections\nOrderedDict\n', ')\x81.'), /operation 0x81/],
    ['an instance', pickle('(icollections\nOrderedDict\n.'), /operation 0x69/],
    ['an extension', pickle('\x82\x01.'), /operation 0x82/],
    ['a call of a number', pickle('K\x01', ')R.'), /calls what cannot be called/],
    ['a call of a storage type', pickle('ctorch\nFloatStorage\n', ')R.'), /calls what cannot be called/],
    ['a storage that is none', pickle({ text: 'file' }, 'Q.'), /no storage of a known type/],
    ['a text beyond the end', pickle('X\xff\xff\xff\xff', 'abc'), /is cut short/],
    ['a list of nothing', pickle('e.'), /closes a mark that it has not opened/],
    ['an empty stack', pickle('.'), /takes more from its stack than there is/],
    ['an object never stored', pickle('h\x09.'), /recalls object 9/],
    ['a list as a key', pickle('}', ']', 'N', 's.'), /dictionary key that is neither text nor number/],
    ['no end', pickle('N'), /is cut short/],
    ['protocol 5', new Uint8Array([0x80, 5]), /is of pickle protocol 5/],
  ])('%s', (_what, bytes, said) => {
    const message = refusalOf(bytes);
    expect(message).toMatch(said);
    expect(message).toMatch(/^w\.bin: .*\(byte \d+\)/);
  });

  it('a deep nest, a long list and a memory of much, in bounded time', () => {
    const deep = new Uint8Array(2_000_000).fill('('.charCodeAt(0));
    expect(refusalOf(Buffer.concat([pickle(), deep]))).toMatch(/more than 200000 pickle operations/);
    const nested = new Uint8Array(1_000_000).fill(0x85);
    expect(refusalOf(Buffer.concat([pickle('N'), nested]))).toMatch(/more than 200000 pickle operations/);
    const wide = pickle('(', 'N'.repeat(190_000), 't.');
    expect((read(wide) as unknown[]).length).toBe(190_000);
  });

  it('a shape of a million sides', () => {
    const sides = Array.from({ length: 10_000 }, () => 'K\x01');
    const storage = pickle(
      '(',
      { text: 'storage' },
      'ctorch\nFloatStorage\n',
      { text: '0' },
      { text: 'cpu' },
      'K\x01',
      'tQ',
    );
    const call = pickle('K\x00', '(', ...sides, 't', '(', ...sides, 't', '\x89', 'N', 't', 'R.').subarray(2);
    const head = pickle('ctorch._utils\n_rebuild_tensor_v2\n', '(').subarray(2);
    expect(refusalOf(Buffer.concat([pickle(), head, storage.subarray(2), call]))).toMatch(
      /describes a tensor in a way/,
    );
  });

  it('any bytes: an answer or a refusal, never anything else', () => {
    const operations = fc.constantFrom(...'(]})tluseaqhrjcRbQNKMJX.', '\x88', '\x85', '\x86', '\x94');
    const piece = fc.oneof(
      operations,
      fc.constant('ccollections\nOrderedDict\n'),
      fc.string({ maxLength: 2 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        refusalOf(pickle(...pieces, '.'));
      }),
    );
  });
});
