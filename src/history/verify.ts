/**
 * Whether the records of a commit log mean what a run's records must: the checks that go beyond the
 * chain of checksums and the order of records, which scan.ts has made of each record that comes here.
 * Pure; the learning-rate schedule is the coordinator's and is handed in.
 *
 * What no log can prove of itself: the digests (checkpoints vouch for some, see verify-checkpoint.ts),
 * and each slot's tokens and loss, which only computing the step again would show.
 */
import { assert, LockstepError, unreachable } from '../base/index.ts';
import {
  bitDecidingPart,
  fingerprintOf,
  type OptimizerConfig,
  type RunConfig,
  runConfigSchema,
} from '../config/index.ts';
import type { CheckpointedRecord, CommittedRecord, OpenedRecord, SkippedRecord } from './record.ts';
import type { ScannedRecord, TornTail } from './scan.ts';
import { EMPTY_HISTORY, type HistorySummary } from './sequence.ts';

/** The rate of a step, counted from 1, in a run of so many steps. */
export type LearningRateSchedule = (step: number, optimizer: OptimizerConfig, totalSteps: number) => number;

export interface LogVerifierOptions {
  /** For messages. */
  readonly path: string;
  readonly learningRateAt: LearningRateSchedule;
  /** Steps whose checkpoints will be compared with the log. */
  readonly checkpointSteps: ReadonlySet<number>;
}

/** What the log says of one step, for its checkpoint to be compared with. */
export interface StepClaims {
  readonly line: number;
  /** Real tokens of all steps up to and including this one. */
  readonly tokensSeen: number;
  /** Null of a step that was skipped, which nobody voted on. */
  readonly gradientDigest: string | null;
  /** Of the parameters that the step started from; likewise. */
  readonly parametersDigest: string | null;
}

/** The first commit after a step: since steps that are skipped change nothing, it started from that step's parameters. */
export interface NextCommit {
  readonly line: number;
  readonly parametersDigest: string;
}

/** The first record that announced a step's checkpoint. */
export interface Announcement {
  readonly line: number;
  readonly weightsSha256: string;
}

/** A log in which nothing was found wrong. */
export interface VerifiedLog {
  readonly path: string;
  readonly numRecords: number;
  readonly history: HistorySummary;
  /** Of the weights that the run was given to start from; null when it drew them from its seed. */
  readonly startWeightsSha256: string | null;
  /** Slots of all committed steps. */
  readonly numSlots: number;
  /** By step, of those that have a checkpoint, as far as they are over. */
  readonly claims: ReadonlyMap<number, StepClaims>;
  /** Likewise, as far as there is one. */
  readonly nextCommits: ReadonlyMap<number, NextCommit>;
  /** By step, those that are no longer kept too. */
  readonly announced: ReadonlyMap<number, Announcement>;
  /** What follows the last whole record; null when nothing does. */
  readonly tail: TornTail | null;
}

/** Takes a log's records in order. Keeps only what checkpoints are compared with. */
export class LogVerifier {
  readonly #options: LogVerifierOptions;
  readonly #claims = new Map<number, StepClaims>();
  readonly #nextCommits = new Map<number, NextCommit>();
  /** The oldest step that has the parameters of the newest one. */
  #unchangedSince = 0;
  readonly #announced = new Map<number, Announcement>();
  #config: RunConfig | null = null;
  #history: HistorySummary = EMPTY_HISTORY;
  #numRecords = 0;
  #numSlots = 0;

  constructor(options: LogVerifierOptions) {
    this.#options = options;
  }

  /**
   * Throws HISTORY_CORRUPT naming line, step, what is recorded and what was expected; its context
   * holds them apart, as `line`, `step`, `field`, `recorded` and `expected`.
   */
  take({ record, line, history }: ScannedRecord): void {
    switch (record.kind) {
      case 'opened':
        this.#opened(record, line);
        break;
      case 'committed':
        this.#committed(record, line, history.tokens);
        break;
      case 'skipped':
        this.#skipped(record, line, history.tokens);
        break;
      case 'checkpointed':
        this.#checkpointed(record, line);
        break;
      case 'resumed':
      case 'finished':
        // Their steps are all they say, and the order of records has proven those.
        break;
      default:
        unreachable(record);
    }
    this.#history = history;
    this.#numRecords += 1;
  }

  /** Call it after the last record. */
  end(tail: TornTail | null): VerifiedLog {
    return {
      path: this.#options.path,
      numRecords: this.#numRecords,
      history: this.#history,
      startWeightsSha256: this.#config?.start?.weightsSha256 ?? null,
      numSlots: this.#numSlots,
      claims: this.#claims,
      nextCommits: this.#nextCommits,
      announced: this.#announced,
      tail,
    };
  }

  #opened({ config, datasetSha256, fingerprint }: OpenedRecord, line: number): void {
    const parsed = runConfigSchema.safeParse(config);
    if (!parsed.success) {
      const { path, message } = parsed.error.issues[0]!;
      const field = ['config', ...path].join('.');
      const recorded = JSON.stringify(valueAt(config, path)) ?? 'absent';
      throw this.#contradiction(line, 0, field, recorded, message, 'the schema of the configuration');
    }
    this.#config = parsed.data;
    const expected = fingerprintOf(bitDecidingPart(parsed.data, datasetSha256));
    this.#expect(line, 0, 'fingerprint', fingerprint, expected, 'that of the recorded configuration');
  }

  #committed(record: CommittedRecord, line: number, tokensSeen: number): void {
    assert(this.#config !== null, 'the order of records has "opened" come first');
    const { steps, step: stepConfig, optimizer } = this.#config;
    const { step, slots, lossSum, learningRate, gradientDigest, parametersDigest } = record;
    const { microBatches } = stepConfig;
    this.#expect(line, step, 'number of slots', slots.length, microBatches, 'step.microBatches of the run');
    // In slot order, as it was summed: then the two are equal to the bit.
    const slotLosses = slots.reduce((sum, slot) => sum + slot.lossSum, 0);
    this.#expect(line, step, 'lossSum', lossSum, slotLosses, 'the sum of the losses of all slots');
    const rate = this.#options.learningRateAt(step, optimizer, steps);
    this.#expect(line, step, 'learningRate', learningRate, rate, 'the rate of the schedule');
    this.#numSlots += slots.length;
    this.#claim(step, line, tokensSeen, { gradientDigest, parametersDigest });
    const { checkpointSteps } = this.#options;
    for (let earlier = this.#unchangedSince; earlier < step; earlier += 1) {
      if (checkpointSteps.has(earlier)) this.#nextCommits.set(earlier, { line, parametersDigest });
    }
    this.#unchangedSince = step;
  }

  #skipped({ step, slot }: SkippedRecord, line: number, tokensSeen: number): void {
    assert(this.#config !== null, 'the order of records has "opened" come first');
    const { optimizer, step: stepConfig } = this.#config;
    const allowed = optimizer.onNotFinite === 'skip' ? 'skipped' : 'committed';
    this.#expect(line, step, 'kind', 'skipped', allowed, 'optimizer.onNotFinite of the run');
    const last = stepConfig.microBatches - 1;
    if (slot !== null) {
      this.#expect(line, step, 'slot', slot, Math.min(slot, last), 'step.microBatches of the run');
    }
    this.#claim(step, line, tokensSeen, { gradientDigest: null, parametersDigest: null });
  }

  #claim(
    step: number,
    line: number,
    tokensSeen: number,
    digests: Pick<StepClaims, 'gradientDigest' | 'parametersDigest'>,
  ): void {
    if (this.#options.checkpointSteps.has(step)) this.#claims.set(step, { line, tokensSeen, ...digests });
  }

  /** A resumed run may store a step's checkpoint again; the weights are the same or the promise is broken. */
  #checkpointed({ step, weightsSha256 }: CheckpointedRecord, line: number): void {
    const earlier = this.#announced.get(step);
    if (earlier === undefined) {
      this.#announced.set(step, { line, weightsSha256 });
      return;
    }
    const why = `announced in line ${earlier.line}`;
    this.#expect(line, step, 'weightsSha256', weightsSha256, earlier.weightsSha256, why);
  }

  #expect<T extends string | number>(
    line: number,
    step: number,
    field: string,
    recorded: T,
    expected: T,
    why: string,
  ): void {
    if (recorded !== expected) throw this.#contradiction(line, step, field, recorded, expected, why);
  }

  #contradiction(
    line: number,
    step: number,
    field: string,
    recorded: string | number,
    expected: string | number,
    why: string,
  ): LockstepError {
    const { path } = this.#options;
    return new LockstepError(
      'HISTORY_CORRUPT',
      `${path}: line ${line}, step ${step}: ${field}: ${recorded} recorded, ${expected} expected (${why}); ` +
        'restore the file from a copy, or start a new run from a checkpoint',
      { context: { path, line, step, field, recorded, expected } },
    );
  }
}

function valueAt(tree: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined),
    tree,
  );
}
