/**
 * De-duplication as the authors' test script does it: of consecutive words that are equal, exactly and with
 * case, one is kept (ELMER.md section 5). A word is what stands between white space. Pure.
 */
export function removeRepeats(text: string): string {
  // Each word with the white space before it.
  const words = text.match(/\s*\S+/g) ?? [];
  return words.filter((word, place) => word.trim() !== words[place - 1]?.trim()).join('');
}
