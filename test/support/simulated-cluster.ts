/**
 * A whole cluster in one thread: the coordinator's machine, real worker lifecycles, a queue that
 * delivers at least once, and links that keep order within themselves and none among each other. Every
 * next move is drawn from a seed. What a driver must keep, and what DESIGN section 1 promises, is
 * asserted after every move; a failure carries the moves that led to it.
 */
import { assert, messageOf, PhiloxRng } from '../../src/base/index.ts';
import {
  type CommittedStep,
  type CoordinatorEffect,
  type CoordinatorEvent,
  type CoordinatorSettings,
  type CoordinatorState,
  initialState,
  type Outcome,
  transition,
} from '../../src/coordinator/index.ts';
import { PROTOCOL_VERSION, type WorkerMessage } from '../../src/protocol/index.ts';
import type { UploadOrder } from '../../src/worker/lifecycle.ts';
import { gradientOf, parametersAfter } from './simulated-oracle.ts';
import { SimulatedQueue } from './simulated-queue.ts';
import { type Fragments, type Order, SIZE, SimulatedWorker, type Surroundings } from './simulated-worker.ts';

export type Fault = 'kill' | 'freeze' | 'losePlace' | 'emptyQueue' | 'restartCoordinator' | 'damage';

/** A possible next move, and what it is called in the transcript. */
interface Move {
  readonly name: string;
  run(): void;
}

interface Writing {
  readonly step: number;
  readonly attempt: number;
  readonly ranges: { offset: number; length: number }[];
}

export class SimulatedCluster implements Surroundings {
  readonly workers: SimulatedWorker[] = [];
  readonly queue = new SimulatedQueue();
  /** The commit log. */
  readonly log: CommittedStep[] = [];
  readonly faultsDone = new Map<Fault, number>();
  state: CoordinatorState;
  outcome: Outcome | null = null;
  readonly #settings: CoordinatorSettings;
  readonly #rng: PhiloxRng;
  readonly #transcript: string[] = [];
  #storedStep = 0;
  #writing: Writing | null = null;
  /** Step of a complete checkpoint that is being verified and moved to its place. */
  #storing: number | null = null;
  #enqueuing: Extract<CoordinatorEffect, { type: 'enqueue' }>[] = [];
  /** What ranks have sent to one another, by attempt. */
  readonly #sent = new Map<string, Map<number, Fragments>>();
  #numStarted = 0;
  #numRestarts = 0;

  constructor(settings: CoordinatorSettings, seed: number) {
    this.#settings = settings;
    this.#rng = new PhiloxRng({ seed, stream: 'sampling', substream: 3, step: 0, slot: 0 });
    this.state = this.#initial();
  }

  /** Random moves until the run has ended; `faults` happen in between, in that order. */
  run(faults: readonly Fault[], movesMax: number): void {
    const left = [...faults];
    try {
      for (let move = 0; this.outcome === null; move += 1) {
        assert(move < movesMax, `the run ends within ${movesMax} moves once faults have stopped`);
        if (left.length > 0 && this.#rng.nextInt(30) === 0) this.#fault(left.shift()!);
        else this.#step();
      }
    } catch (error) {
      const tail = this.#transcript.slice(-80).join('\n  ');
      throw new Error(`${messageOf(error)}\n  ${tail}`, { cause: error });
    }
  }

  startWorker(): void {
    this.#numStarted += 1;
    const worker = new SimulatedWorker(`w${this.#numStarted}`, this);
    this.workers.push(worker);
    worker.tick();
  }

  note(line: string): void {
    this.#transcript.push(line);
  }

  get alive(): SimulatedWorker[] {
    return this.workers.filter(({ life }) => life !== 'dead');
  }

  // ---- moves ------------------------------------------------------------------------------------

  #step(): void {
    const moves = this.#moves();
    assert(moves.length > 0, 'there is always something that can happen next');
    const move = moves[this.#rng.nextInt(moves.length)]!;
    this.note(move.name);
    move.run();
  }

  #moves(): Move[] {
    const moves: Move[] = [];
    const add = (name: string, run: () => void) => moves.push({ name, run });
    for (const worker of this.workers) {
      const { name } = worker;
      const said = worker.toCoordinator[0];
      if (said !== undefined) {
        add(`coordinator hears ${said.type} of ${name}`, () => this.#hear(worker));
      }
      if (worker.life === 'dead') {
        const isKnown = this.state.workers.has(name);
        if (isKnown && said === undefined) add(`${name} is missed`, () => this.#miss(worker));
        if (this.queue.heldBy(name).length > 0) {
          add(`locks of ${name} expire`, () => this.queue.expire(this.queue.heldBy(name)[0]!));
        }
        continue;
      }
      if (worker.life === 'frozen') {
        // Declared dead or not: it may wake up at any time.
        add(`${name} wakes up`, () => {
          worker.life = 'alive';
        });
        continue;
      }
      // Heartbeats at other times say nothing that the coordinator does not know.
      const isUnheard = !this.state.workers.has(name) && said === undefined && worker.toWorker.length === 0;
      if (isUnheard) add(`${name} gives a sign of life`, () => worker.tick());
      for (const move of worker.moves(this.queue)) add(`${name} ${move.name}`, move.run);
    }
    const [enqueued] = this.#enqueuing;
    if (enqueued !== undefined) {
      add('jobs arrive in the queue', () => {
        this.#enqueuing.shift();
        for (const job of enqueued.jobs) this.queue.add(job);
      });
    }
    const storing = this.#storing;
    if (storing !== null) {
      add(`checkpoint ${storing} is stored`, () => {
        this.#storing = null;
        this.#writing = null;
        this.#storedStep = storing;
        this.#post({ type: 'checkpointStored', step: storing });
      });
    }
    if (this.alive.length < 1) add('a worker is started', () => this.startWorker());
    return moves;
  }

  #hear(worker: SimulatedWorker): void {
    this.#post({ type: 'messageArrived', message: worker.toCoordinator.shift()! });
  }

  #miss({ name }: SimulatedWorker): void {
    this.#post({ type: 'connectionLost', incarnation: name, reason: 'silent' });
  }

  #fault(fault: Fault): void {
    const alive = this.alive.filter(({ life }) => life === 'alive');
    const victim = alive[this.#rng.nextInt(Math.max(1, alive.length))];
    if (victim === undefined) return;
    this.note(`FAULT ${fault} ${victim.name}`);
    this.faultsDone.set(fault, (this.faultsDone.get(fault) ?? 0) + 1);
    switch (fault) {
      case 'kill':
        victim.life = 'dead';
        // What it had said may or may not have got out of its sockets.
        victim.toCoordinator.length = this.#rng.nextInt(victim.toCoordinator.length + 1);
        this.startWorker();
        return;
      case 'freeze':
        // It is declared dead, and does not know.
        victim.life = 'frozen';
        this.#miss(victim);
        this.startWorker();
        return;
      case 'losePlace': {
        const held = this.queue.heldBy(victim.name);
        if (held.length > 0) this.queue.expire(held[this.#rng.nextInt(held.length)]!);
        return;
      }
      case 'emptyQueue':
        this.queue.clear();
        this.#post({ type: 'queueEmptied' });
        return;
      case 'restartCoordinator':
        this.#restart();
        return;
      case 'damage':
        victim.damageReduction();
        return;
    }
  }

  /** Another coordinator process opens the same folder: nobody it knows, an empty queue. */
  #restart(): void {
    this.#numRestarts += 1;
    this.queue.clear();
    this.#enqueuing = [];
    this.#writing = null;
    this.#storing = null;
    for (const worker of this.workers) worker.toWorker.length = 0;
    this.state = this.#initial();
  }

  #initial(): CoordinatorState {
    const recorded = new Map(
      this.log.filter(({ step }) => step > this.#storedStep).map((record) => [record.step, record]),
    );
    return initialState(this.#settings, { step: this.#storedStep, recorded, layoutKey: null });
  }

  // ---- the coordinator's driver -----------------------------------------------------------------

  #post(event: CoordinatorEvent): void {
    const { state, effects } = transition(this.state, event);
    this.state = state;
    for (const effect of effects) this.#carryOut(effect);
  }

  #carryOut(effect: CoordinatorEffect): void {
    switch (effect.type) {
      case 'send':
      case 'welcome': {
        const worker = this.workers.find(({ name }) => name === effect.to);
        if (effect.type === 'send' && effect.message.type === 'commit') {
          assert(this.log.length >= effect.message.step, 'a commit is on disk before it is announced');
        }
        worker?.tell(effect);
        return;
      }
      case 'enqueue':
        this.#enqueuing.push(effect);
        return;
      case 'appendCommit':
        this.#append(effect.record);
        return;
      case 'committed':
        this.#check(effect.record, effect.repeated);
        return;
      case 'beginCheckpoint':
        assert(this.#writing === null, 'one checkpoint at a time');
        assert(this.log.length >= effect.step, 'a checkpoint is of a committed step');
        this.#writing = { step: effect.step, attempt: effect.attempt, ranges: [] };
        return;
      case 'storeCheckpoint': {
        assert(this.#writing?.step === effect.step, 'the checkpoint that is written is stored');
        const ranges = this.#writing.ranges.toSorted((a, b) => a.offset - b.offset);
        const end = ranges.reduce((at, { offset, length }) => (offset === at ? at + length : NaN), 0);
        assert(end === SIZE, 'a checkpoint is stored only when every float is there once');
        this.#storing = effect.step;
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
        this.note(`  note ${effect.event} ${JSON.stringify(effect.fields)}`);
        return;
      case 'appendFinished':
        return;
    }
  }

  #append(record: CommittedStep): void {
    assert(record.step === this.log.length + 1, `step ${record.step} is appended after ${this.log.length}`);
    this.log.push(record);
  }

  /** Same bits: whatever happened, this step is the one that an undisturbed run would have taken. */
  #check(record: CommittedStep, repeated: boolean): void {
    const { step } = record;
    assert(repeated || step === this.log.length, 'a new step is the newest in the log');
    const { microBatches } = this.#settings;
    record.slots.forEach(({ slot }, place) => {
      assert(slot === place, `slot ${place} of step ${step} is there once`);
    });
    assert(record.slots.length === microBatches, `step ${step} has all its slots`);
    const expected = parametersAfter(step - 1, microBatches);
    assert(record.parametersDigest === expected, `step ${step} starts from the parameters of ${step - 1}`);
    assert(record.gradientDigest === gradientOf(step, microBatches), `step ${step} has the one gradient`);
  }

  // ---- the coordinator's HTTP side --------------------------------------------------------------

  upload({ step, attempt, offset, length }: UploadOrder, parameters: string): string | null {
    const writing = this.#writing;
    if (writing === null || writing.step !== step || writing.attempt !== attempt) return 'no such checkpoint';
    assert(this.#storing === null, 'nothing is written into a complete checkpoint');
    const expected = parametersAfter(step, this.#settings.microBatches);
    assert(parameters === expected, `what is stored is the state of step ${step}`);
    const overlaps = writing.ranges.some(
      (range) => offset < range.offset + range.length && range.offset < offset + length,
    );
    assert(!overlaps, `floats ${offset}+${length} of checkpoint ${step} come once`);
    writing.ranges.push({ offset, length });
    return null;
  }

  download(step: number): string {
    assert(step === this.#storedStep, `joiners load the stored step ${this.#storedStep}, not ${step}`);
    return parametersAfter(step, this.#settings.microBatches);
  }

  /** Puts a worker's envelope around what it says. */
  deliver(worker: SimulatedWorker, message: object): void {
    const envelope = { protocol: PROTOCOL_VERSION, run: this.#settings.run, incarnation: worker.name };
    // The lifecycle's messages are complete but for the envelope.
    worker.toCoordinator.push({ ...envelope, ...message } as WorkerMessage);
  }

  /** A process that was told to go is followed by another while there is a run to go on with. */
  onEnded(): void {
    if (this.outcome === null && this.state.activity.phase !== 'finished') this.startWorker();
  }

  fragmentsOf({ generation, step, attempt }: Order): Map<number, Fragments> {
    const key = `${this.#numRestarts} ${generation} ${step} ${attempt}`;
    const sent = this.#sent.get(key) ?? new Map<number, Fragments>();
    this.#sent.set(key, sent);
    return sent;
  }
}
