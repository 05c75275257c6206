/**
 * Gradients that are added up on a graphics card, on a software driver: the fragments have the bits of the host's sums,
 * whether they are read in between or the device is taken away with them.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { BUILT } from '../support/in-process.ts';
import { softwareVulkan, softwareVulkanLacks } from '../support/software-vulkan.ts';

const LIMIT_MS = 600_000;
const CHILD = join(import.meta.dirname, '..', 'support', 'children', 'webgpu-sums.mjs');
const lacking = softwareVulkanLacks === null ? '' : ` (${softwareVulkanLacks})`;

describe.skipIf(softwareVulkanLacks !== null)(`sums on a device of engine webgpu${lacking}`, () => {
  it('have the bits of the host, and are computed again when the device takes them along', {
    timeout: LIMIT_MS,
  }, async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [CHILD, BUILT], {
      env: { ...process.env, ...softwareVulkan },
    });
    const { proven, special, finite, cases } = JSON.parse(stdout.trim().split('\n').at(-1)!);
    expect(proven).toBe(true);
    expect(special).toEqual({ leaf: true, node: true, ofNull: true });
    // A large number, the infinities, a NaN.
    expect(finite).toEqual([true, false, false, false]);
    const same = {
      ...{ sameNodes: true, sameBits: true, leaked: 0 },
      nodes: [
        [1, 1],
        [2, 2],
        [4, 2],
        [6, 1],
      ],
    };
    expect(cases).toEqual([
      { ...same, kind: 'lplm', takenAway: null, restarts: [], areOnDevice: [false, true] },
      { ...same, kind: 'lplm', takenAway: 'before a slot', restarts: ['lost'], areOnDevice: [false, false] },
      {
        ...{ ...same, kind: 'lplm', takenAway: 'before it is read' },
        ...{ restarts: ['lost'], areOnDevice: [false, true] },
      },
      { ...same, kind: 'soft', takenAway: null, restarts: [], areOnDevice: [false, true] },
    ]);
  });
});
