/**
 * A whole cluster in one thread: coordinator, workers, a queue that delivers at least once, the links
 * between them all, and one virtual clock. Every next move, the passing of time among them, is drawn
 * from a seed; what must hold is asserted by the parts as they move. A failure carries the newest moves.
 */
import { messageOf, PhiloxRng } from '../base/index.ts';
import { deadlinesFrom } from '../config/index.ts';
import type { CoordinatorSettings, Outcome } from '../coordinator/index.ts';
import type { CoordinatorMessage, WorkerMessage } from '../protocol/index.ts';
import type { UploadOrder } from '../worker/index.ts';
import { SimulatedCoordinator } from './coordinator.ts';
import type { Frame } from './exchange.ts';
import { Link, type Numbered } from './link.ts';
import type { Oracle } from './oracle.ts';
import type { Parts } from './parts.ts';
import { SimulatedQueue } from './queue.ts';
import { type Inheritance, type Move, SimulatedWorker, type Surroundings } from './worker.ts';

export const FAULTS = [
  /** A worker's process dies, and another is started. */
  'kill',
  /** A worker stands still, and goes on later, declared lost or not; or never, with its connections open. */
  'freeze',
  /** A job's lock runs out while its holder works on it. */
  'losePlace',
  /** Redis comes back without its jobs. */
  'emptyQueue',
  /** The coordinator's host dies between two effects, with what it had not synced, and is up again later. */
  'crashCoordinator',
  /** A gradient frame arrives damaged. */
  'damage',
  /** A worker's links, to the coordinator, to its peers or all, carry nothing for a while. */
  'partition',
  /** The connection of a worker and the coordinator breaks, which the coordinator notices. */
  'resetControl',
  /** The same, and nobody notices: it is back at once, without what was under way. */
  'resetControlUnseen',
  /** A worker is asked to leave, by itself or by the coordinator. */
  'drain',
  /** A device is slow for a while. */
  'slow',
  /** A device gets an update wrong; only as the last fault, while most of the others can tell. */
  'corrupt',
  /** The connection of two workers breaks, and takes frames along that nobody misses but the receiver. */
  'resetPeer',
] as const;
export type Fault = (typeof FAULTS)[number];

/** Workers are on one or the other, in turn. */
const NUM_HOSTS = 2;
/** One move in so many is the passing of time; more when there is nothing else to do. */
const MOVES_PER_TICK = 25;
/** One move in so many is the next fault. */
const MOVES_PER_FAULT = 30;
/** Moves for which a fault waits for something that it can break. */
const FAULT_TRIES_MAX = 40;
/** Lines of the transcript that a failure shows. */
const TAIL_LINES = 60;

/** A property of DESIGN section 1, or a rule of the drivers, that a schedule has broken. */
export class BrokenProperty extends Error {
  /** The newest moves, oldest first. */
  readonly moves: readonly string[];

  constructor(property: string, moves: readonly string[], cause: unknown) {
    super(property, { cause });
    this.moves = moves;
  }
}

export interface ClusterOptions {
  readonly settings: CoordinatorSettings;
  readonly numWorkers: number;
  readonly seed: number;
  readonly oracle: Oracle;
  readonly parts: Parts;
  /** Hears every move as it is made. */
  readonly onMove?: (line: string) => void;
}

export class SimulatedCluster implements Surroundings {
  readonly workers: SimulatedWorker[] = [];
  readonly queue = new SimulatedQueue();
  readonly coordinator: SimulatedCoordinator;
  readonly faultsDone = new Map<Fault, number>();
  readonly settings: CoordinatorSettings;
  readonly oracle: Oracle;
  readonly parts: Parts;
  nowMs = 0;
  numMoves = 0;
  /** Numbers of the newest control message to and from each incarnation, at the coordinator's end. */
  readonly #numSent = new Map<string, number>();
  /** When a coordinator that has died is followed by another. */
  #upAtMs = 0;
  readonly #numHeard = new Map<string, number>();
  readonly #options: ClusterOptions;
  readonly #rng: PhiloxRng;
  readonly #tickMs: number;
  readonly #transcript: string[] = [];
  /** Gradient links by receiver, then sender. */
  readonly #peerLinks = new Map<string, Map<string, Link<Frame>>>();
  #numStarted = 0;
  /** How often the fault that is due has found nothing to break. */
  #faultTries = 0;

  constructor(options: ClusterOptions) {
    const { settings, seed, oracle, parts, numWorkers } = options;
    this.#options = options;
    this.settings = settings;
    this.oracle = oracle;
    this.parts = parts;
    this.#tickMs = deadlinesFrom(settings.heartbeatLimitMs).heartbeatIntervalMs;
    this.#rng = new PhiloxRng({ seed, stream: 'sampling', substream: 3, step: 0, slot: 0 });
    this.coordinator = new SimulatedCoordinator({
      ...{ parts, settings, oracle, rng: this.#rng },
      note: (line) => this.note(line),
      send: (to, message) => this.#sendControl(to, message),
      isCorrupt: (incarnation) =>
        this.workers.some(({ name, isCorrupt }) => name === incarnation && isCorrupt),
      onCrashed: () => this.#onCoordinatorCrashed(),
    });
    for (let count = 0; count < numWorkers; count += 1) this.#startWorker();
  }

  get outcome(): Outcome | null {
    return this.coordinator.outcome;
  }

  /**
   * Random moves until the run has ended; `faults` happen in between, in that order. Throws
   * BrokenProperty, also when the run has not ended `movesMax` moves after the last fault.
   */
  run(faults: readonly Fault[], movesMax: number): void {
    const left = [...faults];
    try {
      for (let calmMoves = 0; this.outcome === null; this.numMoves += 1) {
        if (left.length > 0) this.#maybeFault(left);
        else calmMoves += 1;
        if (calmMoves > movesMax) throw new Error(`the run ends within ${movesMax} moves without faults`);
        this.#step();
      }
      if (!this.#isRightEnd(this.outcome)) {
        throw new Error(`the run completes: it ended as ${JSON.stringify(this.outcome)}`);
      }
    } catch (error) {
      throw new BrokenProperty(messageOf(error), this.#transcript.slice(-TAIL_LINES), error);
    }
  }

  #isRightEnd(outcome: Outcome): boolean {
    if (outcome.kind === 'completed') return outcome.step === this.settings.totalSteps;
    // Where too few are left to tell whose bits are wrong, the run must stop and say so.
    const isUndecidable = outcome.kind === 'failed' && outcome.failure.code === 'DIVERGED';
    return isUndecidable && this.workers.some(({ isCorrupt }) => isCorrupt);
  }

  note(line: string): void {
    this.#transcript.push(line);
    this.#options.onMove?.(line);
  }

  // ---- what workers see of the cluster ----------------------------------------------------------

  sendFrame(from: string, to: string, frame: Frame): void {
    this.#peerLink(from, to).send(frame);
  }

  inbound(name: string): ReadonlyMap<string, Link<Frame>> {
    return this.#peerLinks.get(name) ?? new Map();
  }

  upload(order: UploadOrder, parameters: string): string | null {
    return this.coordinator.upload(order, parameters);
  }

  download(step: number): string | null {
    return this.coordinator.download(step);
  }

  onEvicted(inheritance: Inheritance): void {
    this.#startWorker(inheritance);
  }

  #sendControl(to: string, message: CoordinatorMessage): void {
    const seq = (this.#numSent.get(to) ?? 0) + 1;
    this.#numSent.set(to, seq);
    this.workers.find(({ name }) => name === to)?.toWorker.send({ seq, message });
  }

  /** A gap in the numbers is as good as a lost connection. */
  #hearControl({ seq, message }: Numbered<WorkerMessage>): void {
    const { incarnation } = message;
    const before = this.#numHeard.get(incarnation);
    this.#numHeard.set(incarnation, seq);
    if (before !== undefined && seq !== before + 1) {
      this.coordinator.post({ type: 'connectionLost', incarnation, reason: 'messages were lost' });
    }
    this.coordinator.hear(message);
  }

  /** A process that was told to go is followed by another while there is a run to go on with. */
  onEnded(): void {
    if (this.coordinator.state.activity.phase === 'finished') return;
    if (this.#alive().length < this.#options.numWorkers) this.#startWorker();
  }

  // ---- moves ------------------------------------------------------------------------------------

  #step(): void {
    const moves = this.#rng.nextInt(MOVES_PER_TICK) === 0 ? [] : this.#moves();
    const move = moves.length === 0 ? null : moves[this.#rng.nextInt(moves.length)]!;
    if (move === null) {
      this.#passTime();
      return;
    }
    this.note(move.name);
    move.run();
  }

  #passTime(): void {
    this.nowMs += this.#tickMs;
    this.note(`it is ${this.nowMs} ms`);
    for (const worker of this.workers) {
      if (worker.life === 'frozen' && this.nowMs >= worker.wakesAtMs) {
        this.note(`${worker.name} wakes up`);
        worker.life = 'alive';
      }
      if (worker.life === 'alive') worker.tick(this.#tickMs);
    }
    if (!this.#isUp && this.nowMs >= this.#upAtMs) {
      this.note('another coordinator opens the folder');
      this.coordinator.restart();
    }
    if (this.#isUp) this.coordinator.tick(this.nowMs);
  }

  get #isUp(): boolean {
    return this.coordinator.isUp;
  }

  #moves(): Move[] {
    const moves: Move[] = [];
    const { coordinator, queue } = this;
    for (const worker of this.workers) {
      const { name, life, toCoordinator } = worker;
      const said = toCoordinator.peek(this.nowMs)?.message;
      if (said !== undefined && this.#isUp) {
        const what = `${said.type} (generation ${said.generation}, step ${said.step}, attempt ${said.attempt})`;
        moves.push({
          name: `coordinator hears ${what} of ${name}`,
          run: () => this.#hearControl(toCoordinator.take()),
        });
      }
      if (life === 'alive') {
        for (const move of worker.moves()) moves.push({ name: `${name} ${move.name}`, run: move.run });
        continue;
      }
      if (life === 'dead' && toCoordinator.isEmpty && coordinator.state.workers.has(name)) {
        moves.push({ name: `${name} is missed`, run: () => this.#miss(worker) });
      }
      const [held] = queue.heldBy(name);
      if (held !== undefined) {
        moves.push({ name: `a lock of ${name} expires`, run: () => queue.expire(held) });
      }
    }
    if (coordinator.enqueuing.length > 0) {
      moves.push({
        name: 'jobs arrive in the queue',
        run: () => {
          for (const job of coordinator.enqueuing.shift()!) queue.add(job);
        },
      });
    }
    if (coordinator.storing !== null) {
      moves.push({
        name: `checkpoint ${coordinator.storing} is stored`,
        run: () => coordinator.store(),
      });
    }
    if (this.#alive().length === 0) {
      moves.push({ name: 'a worker is started', run: () => this.#startWorker() });
    }
    return moves;
  }

  #startWorker(inheritance: Inheritance | null = null): void {
    this.#numStarted += 1;
    const host = `h${this.#numStarted % NUM_HOSTS}`;
    const worker = new SimulatedWorker(`w${this.#numStarted}`, host, this, inheritance);
    this.workers.push(worker);
    worker.tick(0);
  }

  /** Workers that work, or will again. */
  #alive(): SimulatedWorker[] {
    return this.workers.filter(
      ({ life, wakesAtMs }) => life === 'alive' || (life === 'frozen' && wakesAtMs < Infinity),
    );
  }

  #miss({ name }: SimulatedWorker): void {
    this.coordinator.post({ type: 'connectionLost', incarnation: name, reason: 'its connection closed' });
  }

  // ---- faults -----------------------------------------------------------------------------------

  /** Some moves after the last one, the next fault: now, or as soon as there is something to break, within limits. */
  #maybeFault(left: Fault[]): void {
    if (this.#faultTries === 0 && this.#rng.nextInt(MOVES_PER_FAULT) !== 0) return;
    const fault = left[0]!;
    const awake = this.workers.filter(({ life }) => life === 'alive');
    const victim = awake[this.#rng.nextInt(Math.max(1, awake.length))];
    const isDone = victim !== undefined && this.#canInflict(fault, victim, left);
    if (isDone) {
      this.note(`FAULT ${fault}, at ${victim.name}`);
      this.#inflict(fault, victim);
    }
    this.#faultTries += 1;
    if (!isDone && this.#faultTries < FAULT_TRIES_MAX) return;
    this.#faultTries = 0;
    left.shift();
    if (isDone) this.faultsDone.set(fault, (this.faultsDone.get(fault) ?? 0) + 1);
  }

  /** Whether there is something to break. */
  #canInflict(fault: Fault, victim: SimulatedWorker, left: readonly Fault[]): boolean {
    switch (fault) {
      case 'corrupt': {
        // What is left of the others must be the majority whatever becomes of them.
        const vouching = this.#vouching();
        return left.length === 1 && vouching.length >= 3 && vouching.includes(victim.name);
      }
      case 'drain':
        // Rarely is one on its way in while a step is reduced: that is worth some waiting.
        return this.#faultTries > FAULT_TRIES_MAX / 2 || this.#inPhase('following').length > 0;
      case 'losePlace':
        return this.queue.heldBy(victim.name).length > 0;
      case 'damage':
      case 'resetPeer':
        return this.#fullLinks(victim).length > 0;
      default:
        return true;
    }
  }

  #inflict(fault: Fault, victim: SimulatedWorker): void {
    const rng = this.#rng;
    switch (fault) {
      case 'kill':
        victim.die(rng);
        for (const links of this.#peerLinks.values()) links.get(victim.name)?.loseNewest(rng);
        this.#peerLinks.delete(victim.name);
        this.#startWorker();
        return;
      case 'freeze':
        victim.life = 'frozen';
        victim.wakesAtMs = rng.nextInt(4) === 0 ? Infinity : this.nowMs + this.#someTime();
        // Somebody will see that it hangs; the coordinator has its silence only.
        if (victim.wakesAtMs === Infinity) this.#startWorker();
        return;
      case 'losePlace': {
        const held = this.queue.heldBy(victim.name);
        this.queue.expire(held[rng.nextInt(held.length)]!);
        return;
      }
      case 'emptyQueue':
        this.queue.clear();
        this.coordinator.post({ type: 'queueEmptied' });
        return;
      case 'crashCoordinator':
        this.coordinator.crashesAfter = rng.nextInt(8);
        return;
      case 'damage':
        victim.reader.damagesNext = true;
        return;
      case 'partition':
        this.#partition(victim);
        return;
      case 'resetControl':
        // Whatever waits for the worker is dropped with the connection's end at the coordinator.
        victim.toCoordinator.loseOldest(rng);
        victim.toWorker.clear();
        this.#miss(victim);
        return;
      case 'resetControlUnseen':
        victim.toCoordinator.loseOldest(rng);
        victim.toWorker.loseOldest(rng);
        return;
      case 'drain':
        this.#drain(victim);
        return;
      case 'slow':
        victim.computesAtMs = this.nowMs + this.#someTime();
        return;
      case 'corrupt':
        victim.corruptsNext = true;
        return;
      case 'resetPeer': {
        const full = this.#fullLinks(victim);
        full[rng.nextInt(full.length)]!.loseOldest(rng);
        return;
      }
    }
  }

  /** The coordinator asks one that is still on its way in, if there is any; else the victim is asked, by either. */
  #drain(victim: SimulatedWorker): void {
    const { workers } = this.coordinator.state;
    const following = this.#inPhase('following').find((name) => !workers.get(name)!.isDraining);
    if (following === undefined && this.#rng.nextInt(2) === 0) victim.post({ type: 'drainRequested' });
    else this.coordinator.post({ type: 'drainRequested', incarnation: following ?? victim.name });
    // Who takes its place is there before it has gone, and no crowd: signs of life would be all there is to hear.
    if (this.#alive().length <= this.#options.numWorkers) this.#startWorker();
  }

  #partition(victim: SimulatedWorker): void {
    const untilMs = this.nowMs + this.#someTime();
    const which = this.#rng.nextInt(3);
    if (which !== 0) {
      victim.toCoordinator.cut(untilMs);
      victim.toWorker.cut(untilMs);
    }
    if (which === 1) return;
    for (const { name } of this.#alive()) {
      if (name === victim.name) continue;
      this.#peerLink(name, victim.name).cut(untilMs);
      this.#peerLink(victim.name, name).cut(untilMs);
    }
  }

  /** Workers that are awake and that the coordinator has in this phase. */
  #inPhase(phase: 'following' | 'member'): string[] {
    const { workers } = this.coordinator.state;
    return this.workers
      .filter(({ name, life }) => life === 'alive' && workers.get(name)?.phase === phase)
      .map(({ name }) => name);
  }

  /** Members that will go on saying what parameters they hold: neither leaving nor on a slow device. */
  #vouching(): string[] {
    const { workers } = this.coordinator.state;
    const isSlow = new Set(
      this.workers.filter(({ computesAtMs }) => computesAtMs > this.nowMs).map(({ name }) => name),
    );
    return this.#inPhase('member').filter((name) => !workers.get(name)!.isDraining && !isSlow.has(name));
  }

  /** Links with frames on their way to a worker. */
  #fullLinks({ name }: SimulatedWorker): Link<Frame>[] {
    return [...this.inbound(name).values()].filter((link) => !link.isEmpty);
  }

  #peerLink(from: string, to: string): Link<Frame> {
    const links = this.#peerLinks.get(to) ?? new Map<string, Link<Frame>>();
    this.#peerLinks.set(to, links);
    const link = links.get(from) ?? new Link<Frame>();
    links.set(from, link);
    return link;
  }

  /** From a moment to well beyond what makes a worker lost. */
  #someTime(): number {
    return this.#rng.nextInt(3 * this.settings.heartbeatLimitMs);
  }

  /** The connections to the process that died: what was on the wire is gone, the rest goes to the next one. */
  #onCoordinatorCrashed(): void {
    this.#upAtMs = this.nowMs + this.#someTime();
    this.queue.clear();
    this.#numSent.clear();
    this.#numHeard.clear();
    for (const worker of this.workers) {
      worker.toWorker.clear();
      worker.toCoordinator.loseOldest(this.#rng);
    }
  }
}
