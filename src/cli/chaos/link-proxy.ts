/**
 * A TCP link of a Lockstep process that chaos can cut: it listens on loopback and passes bytes on to
 * another port, there and back.
 *
 * While a direction is held, its bytes wait and nothing is closed: that is how a network that drops every
 * packet looks from above TCP, which sends again once the network heals. A reset breaks the connections
 * there are, and each new one while it lasts. Several cuts may be on at once; a link is free when none is.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { CutMode } from '../../chaos/index.ts';

/** Who of the two ends is the victim: `near` dials the proxy, `far` is what it dials on. */
export type End = 'near' | 'far';

/** The worker whose process holds the dialling end of a connection, by the ports of its two ends. */
export type Identify = (ownPort: number, remotePort: number) => Promise<number | null>;

interface Cut {
  /** From near to far, and from far to near. */
  readonly holdsForward: boolean;
  readonly holdsBackward: boolean;
  readonly resets: boolean;
  /** The worker whose connections it strikes, those to come among them; null for everyone's. */
  readonly dialler: number | null;
}

export class LinkProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #targetPort: number;
  readonly #identify: Identify | null;
  readonly #passages = new Set<Passage>();
  readonly #cuts = new Set<Cut>();

  /**
   * Listens on a free port for what is meant for `targetPort`, where nothing need listen yet. Only with
   * `identify` can a cut name one of several diallers.
   */
  static async listen(targetPort: number, identify: Identify | null = null): Promise<LinkProxy> {
    // Nothing is read before the other end is there to take it.
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    return new LinkProxy(server, targetPort, identify);
  }

  private constructor(server: Server, targetPort: number, identify: Identify | null) {
    this.#server = server;
    this.#targetPort = targetPort;
    this.#identify = identify;
    const address = server.address();
    this.port = typeof address === 'object' && address !== null ? address.port : 0;
    server.on('connection', (socket) => {
      void this.#accept(socket);
    });
  }

  /** Cuts everyone's connections, or one worker's. Returns what heals it. */
  cut(mode: CutMode, victim: End, dialler: number | null = null): () => void {
    const cut: Cut = {
      holdsForward: mode === 'silent' || mode === (victim === 'near' ? 'outward' : 'inward'),
      holdsBackward: mode === 'silent' || mode === (victim === 'near' ? 'inward' : 'outward'),
      resets: mode === 'reset',
      dialler,
    };
    this.#cuts.add(cut);
    this.#update();
    return () => {
      this.#cuts.delete(cut);
      this.#update();
    };
  }

  /** Ends all connections. Idempotent. */
  async close(): Promise<void> {
    for (const passage of this.#passages) passage.reset();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  async #accept(socket: Socket): Promise<void> {
    const passage = new Passage(socket, this.#targetPort, () => this.#passages.delete(passage));
    this.#passages.add(passage);
    if (this.#identify !== null) {
      passage.dialler = await this.#identify(socket.remotePort ?? 0, this.port);
    }
    passage.isIdentified = true;
    this.#update();
  }

  #update(): void {
    for (const passage of this.#passages) {
      if (!passage.isIdentified) continue;
      const felt = [...this.#cuts].filter(({ dialler }) => dialler === null || dialler === passage.dialler);
      if (felt.some(({ resets }) => resets)) passage.reset();
      else {
        passage.hold(
          felt.some(({ holdsForward }) => holdsForward),
          felt.some(({ holdsBackward }) => holdsBackward),
        );
      }
    }
  }
}

/** One connection: the accepted half, and the one dialled for it. */
class Passage {
  /** Until then nothing passes: a cut may be meant for who dialled it. */
  isIdentified = false;
  /** The worker that dialled it, if it was one. */
  dialler: number | null = null;
  readonly #near: Half;
  readonly #targetPort: number;
  #far: Half | null = null;
  readonly #onGone: () => void;

  constructor(near: Socket, targetPort: number, onGone: () => void) {
    this.#targetPort = targetPort;
    this.#onGone = onGone;
    this.#near = new Half(near, () => this.#halfGone());
  }

  /** Holds or frees each direction. A connection that is not whole yet is made once both are free. */
  hold(forward: boolean, backward: boolean): void {
    if (this.#far === null) {
      if (forward || backward || this.#near.isBroken) return;
      const far = connect({ port: this.#targetPort, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
      this.#far = new Half(far, () => this.#halfGone());
    }
    this.#near.passTo(forward ? null : this.#far);
    this.#far.passTo(backward ? null : this.#near);
  }

  reset(): void {
    this.#near.break();
    this.#far?.break();
    this.#halfGone();
  }

  #halfGone(): void {
    const isFarOver = this.#far?.isOver ?? this.#near.isBroken;
    if (this.#near.isOver && isFarOver) this.#onGone();
  }
}

/** One socket, and where what it hears is passed on to. */
class Half {
  readonly #socket: Socket;
  #to: Half | null = null;
  #hasEnded = false;
  isBroken = false;
  isOver = false;

  constructor(socket: Socket, onOver: () => void) {
    this.#socket = socket;
    socket.on('end', () => {
      this.#hasEnded = true;
      this.#tell();
    });
    socket.on('error', () => {
      this.isBroken = true;
    });
    socket.on('close', () => {
      this.isOver = true;
      this.#tell();
      onOver();
    });
  }

  /** Null holds what is heard from now on. */
  passTo(to: Half | null): void {
    if (to === this.#to) return;
    if (this.#to !== null) this.#socket.unpipe(this.#to.#socket);
    this.#to = to;
    if (to === null) return;
    this.#socket.pipe(to.#socket, { end: false });
    this.#tell();
  }

  break(): void {
    this.isBroken = true;
    this.#socket.resetAndDestroy();
  }

  /** What became of this end while the other could not hear of it. */
  #tell(): void {
    if (this.#to === null) return;
    if (this.isBroken) this.#to.#socket.resetAndDestroy();
    else if (this.#hasEnded) this.#to.#socket.end();
  }
}
