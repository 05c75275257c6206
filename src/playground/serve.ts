/** The playground's side of its own process: answers orders one by one, in order. */
import { setPriority } from 'node:os';
import { messageOf, unreachable } from '../base/index.ts';
import { ValidationLoss } from '../evaluation/index.ts';
import { Generator } from './generator.ts';
import type { Answered, Asked, OrderName, Orders } from './messages.ts';

/** Training goes first wherever it runs on the same processors. */
const NICENESS = 10;

/** Serves until the channel to the parent closes. */
export function servePlayground(runDir: string, dataDir: string): Promise<void> {
  setPriority(NICENESS);
  const desk: Desk = {
    generator: retried(() => Generator.open(runDir, dataDir)),
    validation: retried(() => ValidationLoss.open(runDir, dataDir)),
  };
  let work: Promise<void> = Promise.resolve();
  const answer = async (asked: Asked): Promise<Answered> => {
    try {
      return { id: asked.id, ok: true, answer: await carryOut(desk, asked) };
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

/** What orders are carried out with, each opened when first needed. */
interface Desk {
  readonly generator: () => Promise<Generator>;
  readonly validation: () => Promise<ValidationLoss>;
}

/** Opens once; tried anew after a failure, for the run or its data may be there by now. */
function retried<Value>(open: () => Promise<Value>): () => Promise<Value> {
  let opened: Promise<Value> | null = null;
  return () => {
    opened ??= open().catch((error: unknown) => {
      opened = null;
      throw error;
    });
    return opened;
  };
}

async function carryOut({ generator, validation }: Desk, { name, order }: Asked): Promise<unknown> {
  // The other end is playground.ts of this version, which pairs names with their orders.
  const as = <Name extends OrderName>() => order as Orders[Name]['order'];
  switch (name) {
    case 'describe':
      return (await generator()).describe();
    case 'generate':
      return (await generator()).generate(as<'generate'>());
    case 'example':
      return (await generator()).example(as<'example'>());
    case 'validate': {
      const { step, samplesMax } = as<'validate'>();
      return (await validation()).of(step, samplesMax);
    }
    default:
      return unreachable(name);
  }
}
