/** Obviously right twins of src/history: the checksum bit by bit, the log as one text in memory. */
import type { HistoryRecord } from '../../src/history/index.ts';

/** CRC-32C (Castagnoli), one bit at a time; RFC 3720, appendix B.4 has its test vectors. */
export function naiveCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** The whole file for these records. */
export function naiveLog(records: readonly HistoryRecord[]): string {
  let previous = '00000000';
  let text = '';
  for (const record of records) {
    const json = JSON.stringify(record);
    previous = naiveCrc32c(Buffer.from(previous + json))
      .toString(16)
      .padStart(8, '0');
    text += `${previous} ${json}\n`;
  }
  return text;
}
