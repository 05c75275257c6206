/**
 * Gradients between workers of one host: vectors in memory that their owner fills and its peers read in
 * place, so that only headers travel through sockets. It is a file on tmpfs without a name, reached by
 * its owner's descriptor (/proc/PID/fd, see proc(5)) and mapped: open to processes of the same user
 * alone, and gone with its owner and all who have mapped it, however they end.
 *
 * Nothing here tells when a range may be read or written again; that follows from the protocol. Vectors
 * are never given back before the process ends: a peer or another thread may be reading them.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, readlinkSync, statfsSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../base/index.ts';
import { canMap, map, mapPrivate, reserve, unmap, viewOf } from '../memory/index.ts';
import type { MemberAddress, MemoryAddress } from '../protocol/index.ts';

const FOLDER = '/dev/shm';
/** Of tmpfs: statfs(2). */
const TMPFS_MAGIC = 0x01021994;
/** A multiple of the page size of every processor that Node runs on. */
const PAGE_BYTES = 65_536;

/** A vector as it is told to another thread of the process: a view of mapped memory would be copied there. */
export type LentVector = Float32Array | MappedVector;

interface MappedVector {
  readonly address: bigint;
  /** The byte of the file at which it begins; null when it is the process's alone. */
  readonly at: number | null;
  readonly floats: number;
}

/** A worker's own memory, as one of its threads sees it. */
export class GradientMemory {
  /** Null where the system has no such memory: then vectors are this process's alone, and all goes through sockets. */
  readonly address: MemoryAddress | null;
  readonly #vectors = new Map<ArrayBufferLike, MappedVector>();
  readonly #byAddress = new Map<bigint, Float32Array>();
  #end = 0;
  #isFull = false;
  #closed = false;

  /** New memory; one thread of a process makes it and allocates in it. */
  static create(): GradientMemory {
    try {
      if (statfsSync(FOLDER).type !== TMPFS_MAGIC || !canMap()) return GradientMemory.of(null);
      const path = join(FOLDER, `lockstep-${randomUUID()}`);
      const descriptor = openSync(path, 'wx+', 0o600);
      unlinkSync(path);
      return GradientMemory.of({ domain: ownDomain(), pid: process.pid, descriptor });
    } catch {
      return GradientMemory.of(null);
    }
  }

  /** The memory that another thread of this process made; null for memory that nobody else reads. */
  static of(address: MemoryAddress | null): GradientMemory {
    return new GradientMemory(address);
  }

  private constructor(address: MemoryAddress | null) {
    this.address = address;
  }

  /** What peers have mapped stays theirs. By the thread that made it; idempotent. */
  close(): void {
    if (this.address === null || this.#closed) return;
    this.#closed = true;
    closeSync(this.address.descriptor);
  }

  /** A vector of zeros that all threads can see, and peers too as long as there is room. */
  allocate(floats: number): Float32Array {
    const bytes = Math.ceil((floats * 4) / PAGE_BYTES) * PAGE_BYTES;
    if (this.address !== null && !this.#isFull && !this.#closed) {
      try {
        const { descriptor } = this.address;
        // Else a page that cannot be had would end the process when it is first written.
        reserve(descriptor, this.#end, bytes);
        const vector = { address: map(descriptor, this.#end, bytes, 'write'), at: this.#end, floats };
        this.#end += bytes;
        return this.borrow(vector);
      } catch {
        this.#isFull = true;
      }
    }
    return this.allocatePrivate(floats);
  }

  /** A vector of zeros that all threads of this process can see. */
  allocatePrivate(floats: number): Float32Array {
    if (!canMap()) return new Float32Array(new SharedArrayBuffer(floats * 4));
    return this.borrow({ address: mapPrivate(floats * 4), at: null, floats });
  }

  /** What to tell another thread of a vector from `allocate` or `borrow`. */
  lend(values: Float32Array): LentVector {
    return this.#vectors.get(values.buffer) ?? values;
  }

  /** The vector that another thread has lent. */
  borrow(lent: LentVector): Float32Array {
    if (lent instanceof Float32Array) return lent;
    const known = this.#byAddress.get(lent.address);
    if (known !== undefined) return known;
    const values = new Float32Array(viewOf(lent.address, lent.floats * 4));
    this.#byAddress.set(lent.address, values);
    this.#vectors.set(values.buffer, lent);
    return values;
  }

  /** The byte of this memory at which a part of a vector lies; null for one that peers cannot read. */
  positionOf(values: Float32Array): number | null {
    const vector = this.#vectors.get(values.buffer);
    return vector === undefined || vector.at === null ? null : vector.at + values.byteOffset;
  }
}

/** A peer's memory, to read. */
export class PeerMemory {
  readonly #descriptor: number;
  readonly #vectors = new Map<number, { address: bigint; values: Float32Array }>();

  /** Whatever else the number may stand for by now, only a file without a name of this user is taken. */
  static open({ pid, descriptor }: MemoryAddress): PeerMemory {
    const opened = openSync(`/proc/${pid}/fd/${descriptor}`, 'r');
    const stat = fstatSync(opened);
    if (stat.isFile() && stat.nlink === 0 && stat.uid === process.getuid?.()) return new PeerMemory(opened);
    closeSync(opened);
    throw new Error(`descriptor ${descriptor} of process ${pid} is no such memory`);
  }

  private constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** The vector that begins at this byte, mapped when first asked for. Throws when there is none. */
  vectorAt(at: number, floats: number): Float32Array {
    const known = this.#vectors.get(at);
    if (known?.values.length === floats) return known.values;
    const bytes = floats * 4;
    if (known !== undefined || at % PAGE_BYTES !== 0 || at + bytes > fstatSync(this.#descriptor).size) {
      throw new Error(`no vector of ${floats} floats begins at byte ${at}`);
    }
    const address = map(this.#descriptor, at, bytes, 'read');
    const values = new Float32Array(viewOf(address, bytes));
    this.#vectors.set(at, { address, values });
    return values;
  }

  /** No vector of it may be touched from here on. */
  close(): void {
    for (const { address, values } of this.#vectors.values()) unmap(address, values.byteLength);
    this.#vectors.clear();
    closeSync(this.#descriptor);
  }
}

/** The memories of the members of a run that are in reach, opened when first asked for. */
export class PeerMemories {
  readonly #own: MemoryAddress | null;
  readonly #opened = new Map<string, PeerMemory | null>();
  /** Incarnations that cannot read this worker's memory, though they should. */
  readonly #blind = new Set<string>();
  readonly #onTrouble: (reason: string) => void;

  /** `own`: without memory of its own a worker reads nobody else's, as nobody reads its. */
  constructor(own: MemoryAddress | null, onTrouble: (reason: string) => void) {
    this.#own = own;
    this.#onTrouble = onTrouble;
  }

  /**
   * Null when the two do not share memory. Both sides should come to the same answer: same domain means
   * same host, user and process ids, so that either may open the other's.
   */
  of({ incarnation, worker, peerMemory }: MemberAddress): PeerMemory | null {
    const known = this.#opened.get(incarnation);
    if (known !== undefined) return known;
    if (peerMemory === null || peerMemory.domain !== this.#own?.domain) return null;
    let opened: PeerMemory | null = null;
    try {
      opened = PeerMemory.open(peerMemory);
    } catch (error) {
      this.#onTrouble(`the memory of ${worker} cannot be read: ${messageOf(error)}`);
    }
    this.#opened.set(incarnation, opened);
    return opened;
  }

  /** Whether this member reads our memory, as far as is known. */
  isReadBy(member: MemberAddress): boolean {
    return !this.#blind.has(member.incarnation) && this.of(member) !== null;
  }

  /** The member said that it cannot. */
  setBlind({ incarnation }: MemberAddress): void {
    this.#blind.add(incarnation);
  }

  /** Lets go of all memories but those of these members; what was read there is not to be touched any more. */
  keep(members: readonly MemberAddress[]): void {
    const kept = new Set(members.map(({ incarnation }) => incarnation));
    for (const [incarnation, opened] of this.#opened) {
      if (kept.has(incarnation)) continue;
      opened?.close();
      this.#opened.delete(incarnation);
      this.#blind.delete(incarnation);
    }
  }

  close(): void {
    this.keep([]);
  }
}

/** Equal for processes that can open one another's descriptors: same kernel, process ids and user. */
function ownDomain(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return `${boot} ${readlinkSync('/proc/self/ns/pid')} ${readlinkSync('/proc/self/ns/user')} ${process.getuid?.()}`;
}
