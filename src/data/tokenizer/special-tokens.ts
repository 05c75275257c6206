/**
 * The special tokens, at BART's places: four at the front of the vocabulary and `<mask>` at its end.
 * Model, noise and collation rely on them, so a tokenizer that has them elsewhere is refused.
 */
export const BOS_ID = 0;
export const PAD_ID = 1;
export const EOS_ID = 2;
export const UNK_ID = 3;
export const LEADING_SPECIALS = ['<s>', '<pad>', '</s>', '<unk>'] as const;
export const MASK_TOKEN = '<mask>';
/** The four at the front and `<mask>`. */
export const SPECIAL_COUNT = LEADING_SPECIALS.length + 1;
/** Specials and the byte alphabet: the smallest vocabulary there is. */
export const VOCAB_SIZE_MIN = SPECIAL_COUNT + 256;
/** Far beyond any vocabulary in use; keeps a bad file from asking for gigabytes. */
export const VOCAB_SIZE_MAX = 2 ** 21;
