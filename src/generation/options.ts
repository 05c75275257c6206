/** What a person or a program may ask of generation, and what it gets back. */
import { z } from 'zod';
import type { ObjectiveKind } from '../config/index.ts';
import { CONFIDENCES, EXITS } from '../model/index.ts';

export const generationOptionsSchema = z.strictObject({
  /** Which layer a token is read from; `hard` lets each leave where it is confident. */
  exit: z.enum(EXITS),
  /** Hard exit: entropy in nats, below which a token leaves its layer. 0 lets none leave before the last. */
  threshold: z.number().min(0),
  /** Hard exit: once this share of a text's slots has left, the others leave too. 1 waits for each. */
  quorum: z.number().min(0).max(1),
  /** Hard exit: whether the test reads a shortlist of tokens or the whole vocabulary, as published. */
  confidence: z.enum(CONFIDENCES),
  /** Slots that each output may fill, its end included; null takes what the model was trained for. */
  targetLength: z.int().min(1).nullable(),
  /** Autoregressive: beams of the search; 1 decodes greedily. */
  beams: z.int().min(1).max(64),
  /** Autoregressive: power of the length that a hypothesis' log probability is divided by. */
  lengthPenalty: z.number().min(-10).max(10),
  /** Whether a word that repeats the one before it is left out (ELMER.md section 5). */
  removeRepeats: z.boolean(),
});

export type GenerationOptions = Readonly<z.infer<typeof generationOptionsSchema>>;

export const GENERATION_DEFAULTS: GenerationOptions = {
  exit: 'hard',
  threshold: 0.5,
  quorum: 1,
  confidence: 'shortlist',
  targetLength: null,
  beams: 1,
  lengthPenalty: 1,
  removeRepeats: true,
};

/** The defaults for a model: only one that has learned to predict from every layer leaves early. */
export function generationDefaults(kind: ObjectiveKind): GenerationOptions {
  const exits = { lplm: 'hard', lastLayer: 'full', soft: 'soft', autoregressive: 'full' } as const;
  return { ...GENERATION_DEFAULTS, exit: exits[kind] };
}

export interface GeneratedToken {
  readonly id: number;
  /** As it reads in the text, its leading space included. */
  readonly text: string;
  /** The decoder layer that it was read from, from 1. */
  readonly layer: number;
  /** Of the whole vocabulary's distribution at that layer, in nats; null for beam search. */
  readonly entropy: number | null;
  /** Of the token in that distribution. */
  readonly probability: number | null;
}

export interface GeneratedText {
  readonly text: string;
  /** Without the end token, and before repeated words are left out. */
  readonly tokens: readonly GeneratedToken[];
  /** Mean layer of the tokens, the end token among them. */
  readonly meanLayer: number;
  /** Tokens that the encoder read, special ones included. */
  readonly sourceTokens: number;
  /** The source was longer than the model reads and was cut to so many tokens; null when it was not. */
  readonly cutTo: number | null;
  /** Whether the output came to its end within its slots. */
  readonly ended: boolean;
  /** Of the whole batch that the text was in: encoder and decoder, without tokenizing. */
  readonly modelMs: number;
  /** On a GPU the encoder may still be at work when this has passed; `modelMs` waits for all. */
  readonly encoderMs: number;
  readonly decoderMs: number;
}
