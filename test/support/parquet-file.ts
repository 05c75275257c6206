/**
 * Writes small parquet files of text columns: plain encoding, one page a column and row group, no compression, snappy
 * (literals only) or zstd. https://github.com/apache/parquet-format and Thrift's compact protocol.
 */
import { spawnSync } from 'node:child_process';

export type Codec = 'none' | 'snappy' | 'zstd';
const CODEC_NUMBERS: Readonly<Record<Codec, number>> = { none: 0, snappy: 1, zstd: 6 };
const BYTE_ARRAY = 6;

/** A Thrift value with its compact type. */
interface Value {
  readonly type: number;
  readonly bytes: Buffer;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 0x80);
  }
}

const i32 = (value: number): Value => ({ type: 5, bytes: varint(value * 2) });
const i64 = (value: number): Value => ({ type: 6, bytes: varint(value * 2) });
const binary = (text: string): Value => {
  const bytes = Buffer.from(text);
  return { type: 8, bytes: Buffer.concat([varint(bytes.length), bytes]) };
};
const list = (values: readonly Value[]): Value => {
  const type = values[0]?.type ?? 5;
  const head = values.length < 15 ? Buffer.from([(values.length << 4) | type]) : undefined;
  const long = () => Buffer.concat([Buffer.from([0xf0 | type]), varint(values.length)]);
  return { type: 9, bytes: Buffer.concat([head ?? long(), ...values.map(({ bytes }) => bytes)]) };
};
/** Fields by their numbers. */
const struct = (fields: Readonly<Record<number, Value>>): Value => {
  let last = 0;
  const parts = Object.entries(fields).flatMap(([key, { type, bytes }]) => {
    const head = Buffer.from([((Number(key) - last) << 4) | type]);
    last = Number(key);
    return [head, bytes];
  });
  return { type: 12, bytes: Buffer.concat([...parts, Buffer.from([0])]) };
};

function compress(bytes: Buffer, codec: Codec): Buffer {
  if (codec === 'none') return bytes;
  if (codec === 'zstd') return spawnSync('zstd', ['-qc'], { input: bytes, maxBuffer: 1e9 }).stdout;
  const literals: Buffer[] = [varint(bytes.length)];
  for (let start = 0; start < bytes.length; start += 60) {
    const piece = bytes.subarray(start, start + 60);
    literals.push(Buffer.from([(piece.length - 1) << 2]), piece);
  }
  return Buffer.concat(literals);
}

/** A file of `rows`, `groupRows` to a row group. */
export function parquetFile(
  columns: readonly string[],
  rows: readonly Readonly<Record<string, string>>[],
  { codec = 'none', groupRows = rows.length }: { codec?: Codec; groupRows?: number } = {},
): Buffer {
  const parts: Buffer[] = [Buffer.from('PAR1')];
  let offset = 4;
  const groups: Value[] = [];
  for (let first = 0; first < rows.length; first += groupRows) {
    const group = rows.slice(first, first + groupRows);
    const chunks = columns.map((name) => {
      const plain = Buffer.concat(
        group.flatMap((row) => {
          const text = Buffer.from(row[name]!);
          const length = Buffer.alloc(4);
          length.writeUInt32LE(text.length);
          return [length, text];
        }),
      );
      const data = compress(plain, codec);
      const page = { 1: i32(group.length), 2: i32(0), 3: i32(3), 4: i32(3) };
      const header = struct({ 1: i32(0), 2: i32(plain.length), 3: i32(data.length), 5: struct(page) }).bytes;
      const size = header.length + data.length;
      const meta = struct({
        1: i32(BYTE_ARRAY),
        2: list([i32(0)]),
        3: list([binary(name)]),
        4: i32(CODEC_NUMBERS[codec]),
        5: i64(group.length),
        6: i64(header.length + plain.length),
        7: i64(size),
        9: i64(offset),
      });
      const chunk = struct({ 2: i64(offset), 3: meta });
      parts.push(header, data);
      offset += size;
      return chunk;
    });
    groups.push(struct({ 1: list(chunks), 2: i64(0), 3: i64(group.length) }));
  }
  const root = struct({ 4: binary('schema'), 5: i32(columns.length) });
  const leaves = columns.map((name) => struct({ 1: i32(BYTE_ARRAY), 3: i32(0), 4: binary(name), 6: i32(0) }));
  const footer = struct({
    1: i32(1),
    2: list([root, ...leaves]),
    3: i64(rows.length),
    4: list(groups),
  }).bytes;
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  return Buffer.concat([...parts, footer, length, Buffer.from('PAR1')]);
}
