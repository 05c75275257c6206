// What the scripts that compute on a device compare.

/** Relative L2 error. */
export function errorOf(actual, expected) {
  let difference = 0;
  let square = 0;
  expected.forEach((value, i) => {
    difference += (actual[i] - value) ** 2;
    square += value ** 2;
  });
  return Math.sqrt(difference / square);
}

const bytesOf = ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength);

/** Of two typed arrays. */
export const sameBits = (left, right) => bytesOf(left).equals(bytesOf(right));
