/** `--device` and `--devices`: which of this machine's devices workers compute on, one worker on each. */
import { InvalidArgumentError } from 'commander';
import { LockstepError } from '../base/index.ts';
import type { EngineName } from '../config/index.ts';
import { nvidiaCards, probeAdapters, settleEngine } from '../engine/index.ts';

/** `all`, or the devices by index or name. */
export type DevicesFlag = 'all' | readonly string[];

/** Parses `all` or `0,1`. */
export function devicesFlag(text: string): DevicesFlag {
  if (text === 'all') return 'all';
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) throw new InvalidArgumentError('expected all, or devices as 0,1');
  if (new Set(names).size < names.length) throw new InvalidArgumentError('a device is named twice');
  return names;
}

/** One name for each worker to start. Throws CONFIG_INVALID when `all` are none. */
export async function devicesFor(flag: DevicesFlag, engine: EngineName | 'auto'): Promise<readonly string[]> {
  if (flag !== 'all') return flag;
  const name = engine === 'auto' ? (await settleEngine()).name : engine;
  const cards = await countCards(name);
  if (cards.length > 0) return cards;
  throw new LockstepError(
    'CONFIG_INVALID',
    `--devices all: engine ${name} finds no graphics card here; leave the flag out to compute without one, or see \`lockstep doctor\``,
    { context: { field: '--devices', value: 'all' } },
  );
}

async function countCards(engine: EngineName): Promise<readonly string[]> {
  if (engine === 'wasm') return [];
  if (engine === 'tensorflow') return nvidiaCards().map((_, index) => String(index));
  const { adapters } = await probeAdapters();
  return adapters.filter(({ isSoftware }) => !isSoftware).map(({ index }) => String(index));
}
