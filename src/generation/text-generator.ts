/**
 * Text in, text out, over one model. A batch is one call: its texts are encoded and decoded together, in the
 * caller's thread, which an engine blocks meanwhile. Calls do not overlap: the caller awaits each.
 *
 * The number of slots never comes from a reference (ELMER.md section 8, pitfall 5): it is asked for, or the
 * run's target length, or its sequence length.
 */
import { performance } from 'node:perf_hooks';
import { LockstepError } from '../base/index.ts';
import type { EngineName, ObjectiveKind } from '../config/index.ts';
import { BOS_ID, type BpeTokenizer, EOS_ID, PAD_ID } from '../data/index.ts';
import { loadEngine } from '../engine/index.ts';
import {
  createGenerationModel,
  type DecodedSequence,
  type GenerationModel,
  type SourceBatch,
} from '../model/index.ts';
import { type ModelSource, openModelSource } from './model-source.ts';
import type { GeneratedText, GenerationOptions } from './options.ts';
import { removeRepeats } from './remove-repeats.ts';
import { tokenTexts } from './token-texts.ts';

export interface OpenGeneratorOptions {
  /** The run's data set, or whatever else holds the tokenizer, for folders that keep none. */
  readonly data?: string;
  /** What the decoder of a model folder has learned (ModelPlace.kind); a run knows its own. */
  readonly objective?: ObjectiveKind;
  /** Default: the run's. */
  readonly engine?: EngineName | 'auto';
  /** Step of the checkpoint; null takes the newest valid one. */
  readonly checkpoint?: number | null;
}

export interface GeneratorFacts {
  readonly kind: ObjectiveKind;
  readonly decoderLayers: number;
  /** Slots that are filled unless the caller says otherwise. */
  readonly targetLength: number;
  /** Most slots that the model's position table has room for. */
  readonly targetLengthMax: number;
  /** Longest source that is read, special tokens included. */
  readonly sourceLengthMax: number;
  readonly hasConcatHead: boolean;
  /** Of the checkpoint that answers; null for weights of no run. */
  readonly step: number | null;
  readonly vocabSize: number;
}

/** A source as the model reads it: `<s>` ... `</s>`. */
interface Source {
  readonly ids: readonly number[];
  readonly cutTo: number | null;
}

export class TextGenerator {
  readonly tokenizer: BpeTokenizer;
  readonly #source: ModelSource;
  readonly #model: GenerationModel;
  #step: number | null = null;

  /** Throws DATA_MISSING, CONFIG_MISMATCH, CHECKPOINT_INVALID or ENGINE_UNAVAILABLE. */
  static async open(place: string, options: OpenGeneratorOptions = {}): Promise<TextGenerator> {
    const source = await openModelSource({
      ...{ place, data: options.data ?? null, kind: options.objective ?? null },
    });
    const { model, kind, engine } = source;
    const { tf } = await loadEngine(options.engine ?? engine, { threads: 1 });
    const specialIds = { bos: BOS_ID, pad: PAD_ID, eos: EOS_ID, mask: source.tokenizer.maskId };
    const generator = new TextGenerator(source, createGenerationModel({ tf, model, kind, specialIds }));
    try {
      await generator.load(options.checkpoint ?? null);
      return generator;
    } catch (error) {
      await generator.close();
      throw error;
    }
  }

  private constructor(source: ModelSource, model: GenerationModel) {
    this.tokenizer = source.tokenizer;
    this.#source = source;
    this.#model = model;
  }

  get facts(): GeneratorFacts {
    const { model, kind, sourceLengthMax, targetLength } = this.#source;
    return {
      kind,
      decoderLayers: model.decoderLayers,
      targetLength,
      targetLengthMax: model.maxPositions,
      sourceLengthMax,
      hasConcatHead: model.concatHead,
      step: this.#step,
      vocabSize: model.vocabSize,
    };
  }

  /** Takes another checkpoint's parameters; null takes the newest valid one. Throws CHECKPOINT_INVALID. */
  async load(checkpoint: number | null): Promise<void> {
    if (checkpoint !== null && checkpoint === this.#step) return;
    const { flat, step } = await this.#source.readParameters(checkpoint);
    this.#model.setParameters(flat);
    this.#step = step;
  }

  /** One result for each text, in order. Throws CONFIG_INVALID for options that the model cannot follow. */
  async generate(texts: readonly string[], options: GenerationOptions): Promise<GeneratedText[]> {
    return this.#generate(
      texts.map((text) => this.#sourceOf(text)),
      options,
    );
  }

  /** The same for sources that are tokens already, special ones included. */
  async generateFromIds(
    sources: readonly ArrayLike<number>[],
    options: GenerationOptions,
  ): Promise<GeneratedText[]> {
    return this.#generate(
      sources.map((ids) => ({ ids: Array.from(ids), cutTo: null })),
      options,
    );
  }

  /** Frees the model. Idempotent. */
  async close(): Promise<void> {
    this.#model.dispose();
  }

  #sourceOf(text: string): Source {
    const ids = this.tokenizer.encode(text);
    const most = this.facts.sourceLengthMax;
    const kept = ids.slice(0, most - 2);
    return { ids: [BOS_ID, ...kept, EOS_ID], cutTo: kept.length < ids.length ? most : null };
  }

  async #generate(sources: readonly Source[], options: GenerationOptions): Promise<GeneratedText[]> {
    if (sources.length === 0) return [];
    const { targetLength: asked, exit, threshold, quorum, confidence, beams, lengthPenalty } = options;
    const { targetLength: usual, targetLengthMax } = this.facts;
    const targetLength = asked ?? usual;
    if (targetLength > targetLengthMax) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `target length is ${targetLength}: the model has ${targetLengthMax} positions`,
        { context: { field: 'targetLength', value: targetLength } },
      );
    }
    const startMs = performance.now();
    const encoded = this.#model.encode(batchOf(sources));
    try {
      const encodedMs = performance.now();
      const { sequences } = await this.#model.decode(encoded, {
        ...{ exit, threshold, quorum, confidence, targetLength, beams, lengthPenalty },
      });
      const endMs = performance.now();
      const times = {
        modelMs: endMs - startMs,
        encoderMs: encodedMs - startMs,
        decoderMs: endMs - encodedMs,
      };
      return sequences.map((sequence, row) => ({
        ...this.#textOf(sequence, options.removeRepeats),
        sourceTokens: sources[row]!.ids.length,
        cutTo: sources[row]!.cutTo,
        ...times,
      }));
    } finally {
      encoded.dispose();
    }
  }

  #textOf({ tokens, ended }: DecodedSequence, withoutRepeats: boolean) {
    const shown = ended ? tokens.slice(0, -1) : tokens;
    const ids = shown.map(({ id }) => id);
    const texts = tokenTexts(this.tokenizer, ids);
    const text = this.tokenizer.decode(ids);
    return {
      text: withoutRepeats ? removeRepeats(text) : text,
      tokens: shown.map(({ id, layer, entropy, probability }, place) => ({
        ...{ id, text: texts[place]!, layer: layer + 1, entropy, probability },
      })),
      meanLayer: tokens.reduce((sum, { layer }) => sum + layer + 1, 0) / tokens.length,
      ended,
    };
  }
}

/** The sources side by side, padded to the longest. */
function batchOf(sources: readonly Source[]): SourceBatch {
  const sourceLengths = Int32Array.from(sources, ({ ids }) => ids.length);
  const sourceLength = Math.max(...sourceLengths);
  const sourceIds = new Int32Array(sources.length * sourceLength).fill(PAD_ID);
  sources.forEach(({ ids }, row) => {
    sourceIds.set(ids, row * sourceLength);
  });
  return { batchSize: sources.length, sourceLength, sourceIds, sourceLengths };
}
