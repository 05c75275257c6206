/**
 * Beam search for the autoregressive twin. A hypothesis is scored by its log probability divided by
 * length^lengthPenalty, the length counted with `</s>` (as in BART's generation). Of each source's 2k best
 * continuations those that end are hypotheses and the k best others are its beams. A source is done when its k
 * best hypotheses are no worse than what the best beam could still reach.
 *
 * Ties go to the earlier beam and the lower id. Legend: B sources, k beams, N = B * k rows, V words.
 */
import { CachedDecoder } from './cached-decoder.ts';
import type { Tensor, Tf } from './differentiable.ts';
import type { DecodedBatch, EncodedSource, Inference } from './parallel-decoder.ts';
import type { DecodedSequence } from './slot-exits.ts';
import { numWords, type WordEmbeddings, wordLogits } from './vocabulary-head.ts';

export interface BeamOptions {
  readonly beams: number;
  readonly lengthPenalty: number;
  readonly targetLength: number;
}

interface Step {
  readonly id: number;
  readonly logProbability: number;
}

interface Beam {
  readonly steps: readonly Step[];
  /** Sum of the steps' log probabilities. */
  readonly sum: number;
}

interface Hypothesis extends Beam {
  readonly score: number;
  readonly ended: boolean;
}

interface Candidate {
  readonly beam: number;
  readonly step: Step;
  readonly sum: number;
}

/** One source's beams and hypotheses. */
class SourceSearch {
  readonly #options: BeamOptions;
  readonly #endId: number;
  beams: readonly Beam[] = [{ steps: [], sum: 0 }];
  #hypotheses: Hypothesis[] = [];

  constructor(options: BeamOptions, endId: number) {
    this.#options = options;
    this.#endId = endId;
  }

  /**
   * Takes the candidates of all its beams.
   * @returns the beam that each of its new beams continues
   */
  advance(candidates: readonly Candidate[]): readonly number[] {
    const { beams: width } = this.#options;
    const best = [...candidates]
      .sort((a, b) => b.sum - a.sum || a.beam - b.beam || a.step.id - b.step.id)
      .slice(0, 2 * width);
    const kept: Candidate[] = [];
    best.forEach((candidate, rank) => {
      if (candidate.step.id !== this.#endId) {
        if (kept.length < width) kept.push(candidate);
      } else if (rank < width) this.#add(this.#continued(candidate), true);
    });
    this.beams = kept.map((candidate) => this.#continued(candidate));
    return kept.map(({ beam }) => beam);
  }

  get isDone(): boolean {
    const { beams: width, lengthPenalty, targetLength } = this.#options;
    const [bestBeam] = this.beams;
    if (bestBeam === undefined) return true;
    if (this.#hypotheses.length < width) return false;
    // A sum only falls; divided by a power of the length, it is best at one end of the lengths to come.
    const length = lengthPenalty > 0 ? targetLength : bestBeam.steps.length + 1;
    return this.#hypotheses[width - 1]!.score >= bestBeam.sum / length ** lengthPenalty;
  }

  /** The best; beams that no slot is left for count as they are. */
  result(layer: number): DecodedSequence {
    if (!this.isDone) for (const beam of this.beams) this.#add(beam, false);
    const { steps, ended } = this.#hypotheses[0]!;
    const tokens = steps.map(({ id, logProbability }) => ({
      id,
      layer,
      entropy: null,
      probability: Math.exp(logProbability),
    }));
    return { tokens, ended };
  }

  #continued({ beam, step, sum }: Candidate): Beam {
    return { steps: [...this.beams[beam]!.steps, step], sum };
  }

  #add(beam: Beam, ended: boolean): void {
    const score = beam.sum / beam.steps.length ** this.#options.lengthPenalty;
    this.#hypotheses.push({ ...beam, score, ended });
    this.#hypotheses.sort((a, b) => b.score - a.score);
    this.#hypotheses.length = Math.min(this.#hypotheses.length, this.#options.beams);
  }
}

export async function decodeWithBeams(
  inference: Inference,
  encoded: EncodedSource,
  options: BeamOptions,
): Promise<DecodedBatch> {
  const { layers, weights, specialIds } = inference;
  const numLayers = weights.decoder.layers.length;
  const decoder = new CachedDecoder(inference, encoded);
  const searches = Array.from({ length: encoded.batchSize }, () => new SourceSearch(options, specialIds.eos));
  /** The sources that the decoder's rows are of, `rowsEach` for each. */
  let computing = [...searches];
  let rowsEach = 1;
  let previous: Int32Array = new Int32Array(computing.length).fill(specialIds.bos);
  let slotLayers = 0;
  try {
    for (let slot = 0; slot < options.targetLength && computing.length > 0; slot += 1) {
      const states = decoder.step(previous);
      slotLayers += previous.length * numLayers;
      const best = await bestContinuations(layers.tf, states, weights.offRamp, 2 * options.beams);
      states.dispose();
      const origins = computing.map((search, source) =>
        search
          .advance(
            search.beams.flatMap(({ sum }, beam) =>
              best[source * rowsEach + beam]!.map((step) => ({ beam, step, sum: sum + step.logProbability })),
            ),
          )
          .map((beam) => source * rowsEach + beam),
      );
      const stay = Int32Array.from(computing.keys()).filter((source) => !computing[source]!.isDone);
      if (stay.length === 0) {
        computing = [];
        break;
      }
      // A source with fewer beams than another repeats its first; the repetition is not read.
      const next = Math.max(...[...stay].map((source) => origins[source]!.length));
      const rows: number[] = [];
      const ids: number[] = [];
      for (const source of stay) {
        for (let beam = 0; beam < next; beam += 1) {
          rows.push(origins[source]![beam] ?? origins[source]![0]!);
          ids.push((computing[source]!.beams[beam] ?? computing[source]!.beams[0]!).steps.at(-1)!.id);
        }
      }
      decoder.select(Int32Array.from(rows), stay.length < computing.length ? stay : null);
      computing = [...stay].map((source) => computing[source]!);
      previous = Int32Array.from(ids);
      rowsEach = next;
    }
  } finally {
    decoder.dispose();
  }
  return { sequences: searches.map((search) => search.result(numLayers - 1)), slotLayers };
}

/** The `count` most probable tokens of each row, best first. */
async function bestContinuations(
  tf: Tf,
  states_ND: Tensor,
  embeddings: WordEmbeddings,
  count: number,
): Promise<Step[][]> {
  const width = Math.min(count, numWords(embeddings));
  const [ids, logProbabilities] = tf.tidy(() => {
    const logits = wordLogits(tf, states_ND, embeddings);
    const shifted = tf.sub(logits, tf.max(logits, -1, true));
    const { values, indices } = tf.topk(shifted, width);
    const logTotal = tf.log(tf.sum(tf.exp(shifted), -1, true));
    return [indices, tf.sub(values, logTotal)] as [Tensor, Tensor];
  });
  const [idValues, logValues] = await Promise.all([ids.data(), logProbabilities.data()]);
  tf.dispose([ids, logProbabilities]);
  return Array.from({ length: states_ND.shape[0]! }, (_, row) =>
    Array.from({ length: width }, (_unused, rank) => ({
      id: idValues[row * width + rank]!,
      logProbability: logValues[row * width + rank]!,
    })),
  );
}
