/**
 * The playground as the dashboard holds it: a process of its own that is started when first asked, answers one
 * order at a time at low priority, and ends when nobody has asked for a while. Whatever happens in there,
 * the process that trains or serves goes on.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { LockstepError } from '../base/index.ts';
import type { Answered, Asked, OrderName, Orders } from './messages.ts';

/** Loading an engine and a large checkpoint takes a while; beyond this something is wrong. */
const ANSWER_LIMIT_MS = 180_000;
const IDLE_LIMIT_MS = 5 * 60_000;
/** Orders waiting behind the one under way. */
const WAITING_MAX = 8;

interface Pending {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export class Playground {
  readonly #command: readonly string[];
  readonly #env: NodeJS.ProcessEnv;
  #child: ChildProcess | null = null;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #said = '';
  #idle: NodeJS.Timeout | null = null;
  #closed = false;

  /** `command` starts a process that calls `servePlayground`; it is given a channel for messages. */
  constructor(command: readonly string[], env: NodeJS.ProcessEnv) {
    this.#command = command;
    this.#env = env;
  }

  /**
   * Throws ENGINE_UNAVAILABLE when too many are waiting, when the process ends or does not answer in time,
   * and CONFIG_INVALID with the process's own line when it cannot do what is asked.
   */
  ask<Name extends OrderName>(name: Name, order: Orders[Name]['order']): Promise<Orders[Name]['answer']> {
    if (this.#closed) return Promise.reject(unavailable('the dashboard is closing'));
    if (this.#pending.size > WAITING_MAX)
      return Promise.reject(unavailable('too many are asking; try again'));
    const child = this.#started();
    const id = this.#nextId;
    this.#nextId += 1;
    const asked: Asked = { id, name, order };
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), ANSWER_LIMIT_MS);
      const settle = () => {
        clearTimeout(timer);
        this.#pending.delete(id);
        this.#endWhenIdle();
      };
      this.#pending.set(id, {
        resolve: (answer) => {
          settle();
          // Both ends are of one version, and the answer is to the order of this name.
          resolve(answer as Orders[Name]['answer']);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      child.send(asked);
    });
  }

  /** Ends the process. Idempotent. */
  close(): void {
    this.#closed = true;
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#child?.kill('SIGKILL');
  }

  #started(): ChildProcess {
    if (this.#idle !== null) clearTimeout(this.#idle);
    if (this.#child !== null) return this.#child;
    const [program, ...args] = this.#command;
    const child = spawn(program!, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], env: this.#env });
    this.#said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-2000);
    });
    child.on('message', (message: Answered) => {
      const pending = this.#pending.get(message.id);
      if (message.ok) pending?.resolve(message.answer);
      else pending?.reject(new LockstepError('CONFIG_INVALID', message.reason));
    });
    const onEnd = (why: string) => {
      if (this.#child === child) this.#child = null;
      const last = this.#said.trim().split('\n').at(-1) ?? '';
      const error = unavailable(last === '' ? why : `${why}: ${last}`);
      for (const pending of [...this.#pending.values()]) pending.reject(error);
    };
    child.once('exit', () => onEnd('its process has ended'));
    child.once('error', (error) => onEnd(error.message));
    this.#child = child;
    return child;
  }

  #endWhenIdle(): void {
    if (this.#pending.size > 0 || this.#closed) return;
    this.#idle = setTimeout(() => this.#child?.kill('SIGTERM'), IDLE_LIMIT_MS);
    this.#idle.unref();
  }
}

function unavailable(why: string): LockstepError {
  return new LockstepError('ENGINE_UNAVAILABLE', `the playground cannot answer: ${why}`);
}
