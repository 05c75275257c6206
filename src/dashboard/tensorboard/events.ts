/**
 * TensorBoard's events as bytes: the messages of its event.proto and summary.proto, of which scalars and text
 * are used, each in a TFRecord: length, masked CRC-32C of the length, data, masked CRC-32C of the data. Pure.
 */
import { crc32c } from '@node-rs/crc32';
import { bytesField, doubleField, floatField, message, varintField } from '../../base/index.ts';

const FILE_VERSION = 'brain.Event:2';
/** TensorFlow's constant: a checksum of data that holds checksums should not be that of its own parts. */
const CRC_MASK_DELTA = 0xa282ead8;
/** DataType DT_STRING and DataClass DATA_CLASS_TENSOR, as numbered in TensorFlow's and TensorBoard's protos. */
const DT_STRING = 7;
const DATA_CLASS_TENSOR = 2;

/** The first event of every file. Times are in seconds since 1970. */
export function versionEvent(wallTime: number): Uint8Array {
  return record(message(doubleField(1, wallTime), bytesField(3, FILE_VERSION)));
}

export function scalarsEvent(
  wallTime: number,
  step: number,
  scalars: Readonly<Record<string, number>>,
): Uint8Array {
  const values = Object.entries(scalars).map(([name, value]) =>
    message(bytesField(1, name), floatField(2, value)),
  );
  return summaryEvent(wallTime, step, values);
}

/** One Markdown text. */
export function textEvent(wallTime: number, step: number, name: string, text: string): Uint8Array {
  const metadata = message(bytesField(1, bytesField(1, 'text')), varintField(4, DATA_CLASS_TENSOR));
  const shape = bytesField(2, varintField(1, 1));
  const tensor = message(varintField(1, DT_STRING), bytesField(2, shape), bytesField(8, text));
  return summaryEvent(wallTime, step, [
    message(bytesField(1, name), bytesField(8, tensor), bytesField(9, metadata)),
  ]);
}

function summaryEvent(wallTime: number, step: number, values: readonly Uint8Array[]): Uint8Array {
  const summary = message(...values.map((value) => bytesField(1, value)));
  return record(message(doubleField(1, wallTime), varintField(2, step), bytesField(5, summary)));
}

function record(data: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, checksum(length), data, checksum(data)]);
}

function checksum(bytes: Uint8Array): Uint8Array {
  const crc = crc32c(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const rotated = ((crc >>> 15) | (crc << 17)) >>> 0;
  const masked = Buffer.alloc(4);
  masked.writeUInt32LE((rotated + CRC_MASK_DELTA) % 2 ** 32);
  return masked;
}
