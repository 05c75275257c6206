import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Adapter, chooseAdapter, nvidiaCards } from '../../../src/engine/index.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

function adapters(...names: readonly string[]): Adapter[] {
  return names.map((name, index) => ({
    ...{ index, name, api: 'vulkan', vendor: 'v', driver: 'd', tensorBytesMax: 2 ** 31, features: [] },
    isSoftware: name.includes('llvmpipe'),
  }));
}

describe('choosing an adapter', () => {
  const some = adapters('llvmpipe', 'Radeon RX 7900', 'NVIDIA T4');

  it.each([
    [null, 1],
    ['0', 0],
    ['2', 2],
    ['T4', 2],
    ['Radeon RX 7900', 1],
  ])('by %s gives number %i', (device, index) => {
    expect(chooseAdapter(some, device).index).toBe(index);
  });

  it('takes a software driver when there is nothing else', () => {
    expect(chooseAdapter(adapters('llvmpipe'), null).name).toBe('llvmpipe');
  });

  it.each(['3', 'H100'])('refuses %s, and names what there is', (device) => {
    expect(() => chooseAdapter(some, device)).toThrow(
      `--device ${device}: no such WebGPU adapter; this machine has: 0 llvmpipe (software), 1 Radeon RX 7900, 2 NVIDIA T4`,
    );
  });

  it('refuses the second of two cards of one name, for Dawn would take the first', () => {
    const twins = adapters('NVIDIA H100', 'NVIDIA H100');
    expect(chooseAdapter(twins, '0').index).toBe(0);
    expect(() => chooseAdapter(twins, '1')).toThrow(/NVIDIA H100 cannot be told from 0 NVIDIA H100 by name/);
    // Names are found by their parts, so that a longer one hides a shorter.
    expect(() => chooseAdapter(adapters('Arc A770M', 'Arc A770'), '1')).toThrow(/cannot be told from/);
  });
});

describe('NVIDIA cards', () => {
  it('come in the order of their bus addresses', async () => {
    const folder = await temporaryFolder();
    for (const [address, model] of [
      ['0000:41:00.0', 'NVIDIA T4'],
      ['0000:01:00.0', 'NVIDIA A100-SXM4-40GB'],
    ] as const) {
      await mkdir(join(folder, address));
      await writeFile(join(folder, address, 'information'), `Model: \t\t ${model}\nIRQ:   \t\t 42\n`);
    }
    expect(nvidiaCards(folder)).toEqual(['NVIDIA A100-SXM4-40GB', 'NVIDIA T4']);
  });

  it('are none without a driver', () => expect(nvidiaCards('/nowhere')).toEqual([]));
});
