/**
 * Gradients between workers of one host: memory that its owner fills and its peers read, so that only
 * headers travel through sockets. It is a file on tmpfs without a name, reached by its owner's
 * descriptor (/proc/PID/fd, see proc(5)): open to processes of the same user alone, and gone with its
 * owner, however that ends.
 *
 * Nothing here tells when a range may be read or written again; that follows from the protocol.
 */
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../base/index.ts';
import type { MemberAddress, MemoryAddress } from '../protocol/index.ts';

const FOLDER = '/dev/shm';
/** Of tmpfs: statfs(2). */
const TMPFS_MAGIC = 0x01021994;

/** A worker's own memory, which its peers read. */
export class GradientMemory {
  readonly address: MemoryAddress;
  readonly #descriptor: number;
  #isFull = false;
  #closed = false;

  /** Null where the system has no such memory: then everything goes through sockets. */
  static create(): GradientMemory | null {
    try {
      if (process.platform !== 'linux' || statfsSync(FOLDER).type !== TMPFS_MAGIC) return null;
      const path = join(FOLDER, `lockstep-${randomUUID()}`);
      const descriptor = openSync(path, 'wx+', 0o600);
      unlinkSync(path);
      return new GradientMemory({ domain: ownDomain(), pid: process.pid, descriptor });
    } catch {
      return null;
    }
  }

  private constructor(address: MemoryAddress) {
    this.address = address;
    this.#descriptor = address.descriptor;
  }

  /** False when there is no more memory to be had; from then on all writes are refused. */
  write(bytes: Uint8Array, at: number): boolean {
    if (this.#isFull || this.#closed) return false;
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(this.#descriptor, bytes, done, bytes.length - done, at + done);
      }
      return true;
    } catch {
      // What is there already stays readable: frames under way may lie in it.
      this.#isFull = true;
      return false;
    }
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#descriptor);
  }
}

/** A peer's memory, to read. */
export class PeerMemory {
  readonly #descriptor: number;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** Fills `target` from byte `at` on, as far as there is something: the digest of the whole tells. */
  read(target: Uint8Array, at: number): void {
    for (let done = 0; done < target.length; ) {
      const count = readSync(this.#descriptor, target, done, target.length - done, at + done);
      if (count === 0) return;
      done += count;
    }
  }
}

/** The memories of the members of a run that are in reach, opened when first asked for. */
export class PeerMemories {
  readonly #own: GradientMemory | null;
  readonly #opened = new Map<string, { descriptor: number; memory: PeerMemory } | null>();
  readonly #onTrouble: (reason: string) => void;

  /** `own`: without memory of its own a worker reads nobody else's, as nobody reads its. */
  constructor(own: GradientMemory | null, onTrouble: (reason: string) => void) {
    this.#own = own;
    this.#onTrouble = onTrouble;
  }

  /**
   * Null when the two do not share memory. Both sides come to the same answer: same domain means same
   * host, user and process ids, so that either may open the other's.
   */
  of({ incarnation, worker, peerMemory }: MemberAddress): PeerMemory | null {
    const known = this.#opened.get(incarnation);
    if (known !== undefined) return known?.memory ?? null;
    if (this.#own === null || peerMemory?.domain !== this.#own.address.domain) return null;
    let opened: { descriptor: number; memory: PeerMemory } | null = null;
    try {
      const descriptor = openNameless(peerMemory);
      opened = { descriptor, memory: new PeerMemory(descriptor) };
    } catch (error) {
      this.#onTrouble(`the memory of ${worker} cannot be read: ${messageOf(error)}`);
    }
    this.#opened.set(incarnation, opened);
    return opened?.memory ?? null;
  }

  /** Lets go of all memories but those of these members. */
  keep(members: readonly MemberAddress[]): void {
    const kept = new Set(members.map(({ incarnation }) => incarnation));
    for (const [incarnation, opened] of this.#opened) {
      if (kept.has(incarnation)) continue;
      if (opened !== null) closeSync(opened.descriptor);
      this.#opened.delete(incarnation);
    }
  }

  close(): void {
    this.keep([]);
  }
}

/** Whatever else the number may stand for by now, only a file without a name of this user is taken. */
function openNameless({ pid, descriptor }: MemoryAddress): number {
  const opened = openSync(`/proc/${pid}/fd/${descriptor}`, 'r');
  const stat = fstatSync(opened);
  if (stat.isFile() && stat.nlink === 0 && stat.uid === process.getuid?.()) return opened;
  closeSync(opened);
  throw new Error(`descriptor ${descriptor} of process ${pid} is no such memory`);
}

/** Equal for processes that can open one another's descriptors: same kernel, process ids and user. */
function ownDomain(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return `${boot} ${readlinkSync('/proc/self/ns/pid')} ${readlinkSync('/proc/self/ns/user')} ${process.getuid?.()}`;
}
