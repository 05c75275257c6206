/** The playground's side of its own process: answers orders one by one, in order. */
import { setPriority } from 'node:os';
import { messageOf, unreachable } from '../base/index.ts';
import { Generator } from './generator.ts';
import type { Answered, Asked, OrderName, Orders } from './messages.ts';

/** Training goes first wherever it runs on the same processors. */
const NICENESS = 10;

/** Serves until the channel to the parent closes. */
export function servePlayground(runDir: string, dataDir: string): Promise<void> {
  setPriority(NICENESS);
  let generator: Promise<Generator> | null = null;
  let work: Promise<void> = Promise.resolve();
  const answer = async (asked: Asked): Promise<Answered> => {
    try {
      // Tried anew after a failure: the run or its data may be there by now.
      generator ??= Generator.open(runDir, dataDir);
      const opened = await generator.catch((error: unknown) => {
        generator = null;
        throw error;
      });
      return { id: asked.id, ok: true, answer: await carryOut(opened, asked) };
    } catch (error) {
      return { id: asked.id, ok: false, reason: messageOf(error) };
    }
  };
  process.on('message', (asked: Asked) => {
    work = work.then(async () => {
      const answered = await answer(asked);
      process.send?.(answered);
    });
  });
  return new Promise((resolve) => {
    process.once('disconnect', resolve);
  });
}

function carryOut(generator: Generator, { name, order }: Asked): Promise<unknown> | unknown {
  // The other end is playground.ts of this version, which pairs names with their orders.
  const as = <Name extends OrderName>() => order as Orders[Name]['order'];
  switch (name) {
    case 'describe':
      return generator.describe();
    case 'generate':
      return generator.generate(as<'generate'>());
    case 'example':
      return generator.example(as<'example'>());
    default:
      return unreachable(name);
  }
}
