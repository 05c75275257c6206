/**
 * The coordinator's process in a simulation: the real machine, with a driver that carries out effects
 * one by one and may be killed between any two of them, and a disk that forgets what was not synced.
 * What DESIGN section 1 promises of the log and of commits is asserted here, from what was sent and
 * heard and not from what the machine believes.
 */
import { assert, type PhiloxRng } from '../base/index.ts';
import {
  type CommittedStep,
  type CoordinatorEffect,
  type CoordinatorEvent,
  type CoordinatorSettings,
  type CoordinatorState,
  initialState,
  members,
  type Outcome,
  participants,
} from '../coordinator/index.ts';
import {
  type CoordinatorMessage,
  type Job,
  PROTOCOL_VERSION,
  type WorkerMessage,
} from '../protocol/index.ts';
import type { UploadOrder } from '../worker/index.ts';
import { type LoggedStep, SimulatedDisk } from './disk.ts';
import { type Oracle, SIZE } from './oracle.ts';
import type { Parts } from './parts.ts';

export interface CoordinatorContext {
  readonly parts: Parts;
  readonly settings: CoordinatorSettings;
  readonly oracle: Oracle;
  readonly rng: PhiloxRng;
  note(line: string): void;
  send(to: string, message: CoordinatorMessage): void;
  /** Whether this worker's replica holds other bits than it should. */
  isCorrupt(incarnation: string): boolean;
  /** The process has died between two effects. */
  onCrashed(): void;
}

interface Writing {
  readonly step: number;
  readonly attempt: number;
  readonly ranges: { offset: number; length: number }[];
  /** Whether all parts are of the state of that step. */
  isRight: boolean;
}

export class SimulatedCoordinator {
  readonly disk: SimulatedDisk;
  state: CoordinatorState;
  outcome: Outcome | null = null;
  isUp = true;
  /** Jobs on their way into the queue. */
  readonly enqueuing: (readonly Job[])[] = [];
  /** Step of a complete checkpoint that is being verified and moved to its place. */
  storing: number | null = null;
  /** Processes so far: messages are numbered anew by each. */
  numProcesses = 1;
  /** Effects that are still carried out before the process dies; null while it is not to. */
  crashesAfter: number | null = null;
  readonly #context: CoordinatorContext;
  #writing: Writing | null = null;
  /** Votes that have arrived, by the attempt that they name. Dies with the process. */
  #votes = new Map<string, Set<string>>();
  /** The newest step that some worker was told of, and the newest checkpoint that the machine was. */
  #announcedStep = 0;
  #announcedCheckpoint = 0;
  #storedBefore: number | null = null;

  constructor(context: CoordinatorContext) {
    this.#context = context;
    this.disk = new SimulatedDisk(context.parts.synced);
    this.state = this.#initial();
  }

  hear(message: WorkerMessage): void {
    if (message.type === 'vote') {
      const key = attemptKey(message);
      this.#votes.set(key, (this.#votes.get(key) ?? new Set()).add(message.incarnation));
    }
    this.post({ type: 'messageArrived', message });
  }

  tick(nowMs: number): void {
    const { generation, stateStep, workers } = this.state;
    for (const to of workers.keys()) {
      this.#send(to, { type: 'heartbeat', generation, step: stateStep, attempt: 0 });
    }
    this.post({ type: 'tick', nowMs });
  }

  post(event: CoordinatorEvent): void {
    if (!this.isUp) return;
    const before = this.state;
    const { state, effects } = this.#context.parts.coordinate(before, event);
    this.state = state;
    for (const effect of effects) {
      if (this.crashesAfter === 0) {
        this.#crash();
        return;
      }
      if (this.crashesAfter !== null) this.crashesAfter -= 1;
      this.#carryOut(effect, before);
    }
  }

  store(): void {
    const step = this.storing!;
    this.storing = null;
    this.#writing = null;
    this.#storedBefore = this.disk.storedStep;
    this.disk.store(step);
    this.#announcedCheckpoint = step;
    this.post({ type: 'checkpointStored', step });
  }

  #crash(): void {
    const { rng, note, onCrashed } = this.#context;
    note('the coordinator dies');
    this.isUp = false;
    this.crashesAfter = null;
    this.numProcesses += 1;
    this.enqueuing.length = 0;
    this.#writing = null;
    this.storing = null;
    this.#votes = new Map();
    this.#storedBefore = null;
    this.disk.crash(rng);
    const { log, storedStep } = this.disk;
    assert(log.length >= this.#announcedStep, `step ${this.#announcedStep}, announced, survives a crash`);
    const survives = storedStep >= this.#announcedCheckpoint;
    assert(survives, `checkpoint ${this.#announcedCheckpoint}, stored, survives a crash`);
    onCrashed();
  }

  /** Another process opens the same folder: it knows nobody. */
  restart(): void {
    this.isUp = true;
    this.state = this.#initial();
  }

  #initial(): CoordinatorState {
    const { log, storedStep } = this.disk;
    const after = log.filter(({ step }) => step > storedStep);
    const recorded = new Map(after.map(({ step, outcome }) => [step, outcome]));
    const lastWorkers = after.findLast(({ workers }) => workers.length > 0)?.workers ?? [];
    return initialState(this.#context.settings, { step: storedStep, recorded, lastWorkers, layoutKey: null });
  }

  #send(to: string, message: object): void {
    const { run } = this.#context.settings;
    const incarnation = `coordinator ${this.numProcesses}`;
    const envelope = { protocol: PROTOCOL_VERSION, run, incarnation };
    // The machine's messages are complete but for the envelope; of a welcome only the name is read.
    this.#context.send(to, { ...envelope, ...message } as CoordinatorMessage);
  }

  /** `before`: the state that the effect's event met. */
  #carryOut(effect: CoordinatorEffect, before: CoordinatorState): void {
    switch (effect.type) {
      case 'send':
        if (effect.message.type === 'commit') this.#checkAnnouncement(effect.message);
        if (effect.message.type === 'skip') this.#checkLogged(effect.message.step);
        if (effect.message.type === 'stop') this.#checkDismissal(effect.to, before);
        this.#send(effect.to, effect.message);
        return;
      case 'welcome':
        this.#send(effect.to, { type: 'welcome', generation: 0, step: 0, attempt: 0, worker: effect.worker });
        return;
      case 'enqueue':
        this.enqueuing.push(effect.jobs);
        return;
      case 'appendCommit':
        this.disk.append(loggedStepOf(effect.record));
        return;
      case 'appendSkipped': {
        const { step } = effect.record;
        this.disk.append({ step, outcome: { kind: 'skipped' }, workers: [] });
        return;
      }
      case 'skipped': {
        const { oracle, settings } = this.#context;
        const isRight = oracle.overflowingSlot(effect.step, settings) !== null;
        assert(isRight, `step ${effect.step} is skipped only if a gradient of it overflows`);
        return;
      }
      case 'committed':
        this.#checkBits(effect.record, effect.repeated);
        return;
      case 'beginCheckpoint':
        assert(this.#writing === null, 'one checkpoint at a time');
        assert(this.disk.log.length >= effect.step, 'a checkpoint is of a committed step');
        this.#writing = { step: effect.step, attempt: effect.attempt, ranges: [], isRight: true };
        return;
      case 'storeCheckpoint': {
        assert(this.#writing?.step === effect.step, 'the checkpoint that is written is stored');
        const ranges = this.#writing.ranges.toSorted((a, b) => a.offset - b.offset);
        const end = ranges.reduce((at, { offset, length }) => (offset === at ? at + length : NaN), 0);
        assert(end === SIZE, 'a checkpoint is stored only when every float is there once');
        assert(this.#writing.isRight, `what is stored is the state of step ${effect.step}`);
        this.storing = effect.step;
        return;
      }
      case 'abortCheckpoint':
        assert(this.#writing?.step === effect.step, 'the checkpoint that is written is aborted');
        this.#writing = null;
        return;
      case 'finish':
        this.outcome = effect.outcome;
        return;
      case 'note':
        this.#context.note(`  note ${effect.event} ${JSON.stringify(effect.fields)}`);
        if (effect.event === 'workerEntered') this.#checkEntry(String(effect.fields.worker));
        return;
      case 'appendFinished':
        return;
    }
  }

  /** Before anyone hears of a commit it is on disk, and every member has voted in this very attempt. */
  #checkAnnouncement(message: { generation: number; step: number; attempt: number }): void {
    const { step } = message;
    this.#checkLogged(step);
    const votes = this.#votes.get(attemptKey(message));
    // Whoever was let in by this very event follows from this step on.
    const voters = participants(this.state).filter(
      ({ phase, followsFrom }) => phase === 'member' || followsFrom < step,
    );
    for (const { incarnation, worker } of voters) {
      assert(votes?.has(incarnation), `step ${step} commits with the vote of ${worker} in this attempt`);
    }
  }

  #checkLogged(step: number): void {
    assert(this.disk.log.length >= step, `the end of step ${step} is in the log before it is announced`);
    this.#announcedStep = Math.max(this.#announcedStep, step);
  }

  /** Whoever leaves politely takes nothing along that nobody else has. */
  #checkDismissal(to: string, before: CoordinatorState): void {
    const { activity, stateStep } = this.state;
    if (activity.phase === 'finished' || before.workers.get(to)?.phase !== 'member') return;
    const isSafe = members(this.state).length > 0 || this.disk.storedStep === stateStep;
    assert(isSafe, `the state of step ${stateStep} outlives its last holder`);
  }

  /** Which replica is broken only the simulation knows; one that was found out must have been healed. */
  #checkEntry(name: string): void {
    const worker = [...this.state.workers.values()].find((entered) => entered.worker === name);
    if (worker === undefined || worker.numQuarantines === 0) return;
    const isHealed = !this.#context.isCorrupt(worker.incarnation);
    assert(isHealed, `${name}, quarantined, is healed before it computes again`);
  }

  /** Same bits: whatever happened, this step is the one that an undisturbed run would have taken. */
  #checkBits(record: CommittedStep, repeated: boolean): void {
    const { step, slots } = record;
    const { oracle, settings } = this.#context;
    assert(repeated || step === this.disk.log.length, 'a new step is the newest in the log');
    assert(slots.length === settings.microBatches, `step ${step} has all its slots`);
    slots.forEach(({ slot }, place) => {
      assert(slot === place, `slot ${place} of step ${step} is there once`);
    });
    const expected = oracle.parametersAfter(step - 1, settings);
    assert(record.parametersDigest === expected, `step ${step} starts from the parameters of ${step - 1}`);
    const gradient = oracle.gradientOf(step, settings);
    assert(record.gradientDigest === gradient, `step ${step} has the gradient of an undisturbed run`);
    assert(
      oracle.overflowingSlot(step, settings) === null,
      `step ${step}, which overflows, is not committed`,
    );
  }

  // ---- the HTTP side ----------------------------------------------------------------------------

  /** Null when the piece was taken, else why not. */
  upload({ step, attempt, offset, length }: UploadOrder, parameters: string): string | null {
    if (!this.isUp) return 'no answer';
    const writing = this.#writing;
    if (writing === null || writing.step !== step || writing.attempt !== attempt) return 'no such checkpoint';
    assert(this.storing === null, 'nothing is written into a complete checkpoint');
    writing.isRight &&= parameters === this.#context.oracle.parametersAfter(step, this.#context.settings);
    const overlaps = writing.ranges.some(
      (range) => offset < range.offset + range.length && range.offset < offset + length,
    );
    assert(!overlaps, `floats ${offset}+${length} of checkpoint ${step} come once`);
    writing.ranges.push({ offset, length });
    return null;
  }

  /** The newest two are served. */
  download(step: number): string | null {
    if (!this.isUp || (step !== this.disk.storedStep && step !== this.#storedBefore)) return null;
    return this.#context.oracle.parametersAfter(step, this.#context.settings);
  }
}

function loggedStepOf({ step, gradientDigest, parametersDigest, tokens, slots }: CommittedStep): LoggedStep {
  return {
    step,
    outcome: { kind: 'committed', gradientDigest, parametersDigest, tokens },
    workers: [...new Set(slots.map(({ worker }) => worker))],
  };
}

function attemptKey({ generation, step, attempt }: { generation: number; step: number; attempt: number }) {
  return `${generation} ${step} ${attempt}`;
}
