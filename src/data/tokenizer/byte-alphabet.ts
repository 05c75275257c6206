/**
 * GPT-2's alphabet: each of the 256 bytes as one printable character, so that vocabularies can be
 * written as text. Printable Latin-1 stands for itself; the others, in byte order, for U+0100 onwards
 * (a space is "Ġ", a line feed "Ċ"). Radford et al. 2019, `bytes_to_unicode` of the GPT-2 release.
 */
const isPrintable = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

const bytes = Array.from({ length: 256 }, (_, byte) => byte);
const others = bytes.filter((byte) => !isPrintable(byte));

/** The character that stands for each byte. */
export const CHARACTER_OF_BYTE: readonly string[] = bytes.map((byte) =>
  String.fromCharCode(isPrintable(byte) ? byte : 0x100 + others.indexOf(byte)),
);

/** The 256 characters in the order of their ids in GPT-2's vocabulary: printable ones first. */
export const ALPHABET: readonly string[] = [...bytes.filter(isPrintable), ...others].map(
  (byte) => CHARACTER_OF_BYTE[byte]!,
);

const byteOfCharacter = new Map(CHARACTER_OF_BYTE.map((character, byte) => [character, byte]));

/** The bytes that a token's text stands for, or null when it holds characters outside the alphabet. */
export function bytesOfToken(token: string): Uint8Array | null {
  const out = new Uint8Array(token.length);
  for (let index = 0; index < token.length; index += 1) {
    const byte = byteOfCharacter.get(token[index]!);
    if (byte === undefined) return null;
    out[index] = byte;
  }
  return out;
}
