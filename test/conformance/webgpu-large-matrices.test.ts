/**
 * A table and activations beyond what a shader may be given, on a software driver of graphics cards: training and every
 * way of generating compute what they do elsewhere, and no shader is given more than the limit. No device limits
 * bindings below 128 MiB, so what is bound is watched.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { BUILT } from '../support/in-process.ts';
import { softwareVulkan, softwareVulkanLacks } from '../support/software-vulkan.ts';

const LIMIT_MS = 600_000;
/** Relative L2 error of float32 sums in another order. */
const TOLERANCE = 2e-6;
const CHILD = join(import.meta.dirname, '..', 'support', 'children', 'webgpu-large-matrices.mjs');
const lacking = softwareVulkanLacks === null ? '' : ` (${softwareVulkanLacks})`;

/** By way of generating, sequence and slot: token, layer and entropy. */
type Generated = readonly (readonly (readonly (readonly [number, number, number | null])[])[])[];

interface Report {
  /** Of lplm and soft: of the loss and of the gradient. */
  readonly errors: readonly number[];
  readonly generated: { readonly webgpu: Generated; readonly cpu: Generated };
  /** Bytes of the largest binding that was made. */
  readonly largest: number;
  readonly bindingBytesMax: number;
}

describe.skipIf(softwareVulkanLacks !== null)(`large matrices on engine webgpu${lacking}`, () => {
  it('are taken in ranges by training and by generation', { timeout: LIMIT_MS }, async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [CHILD, BUILT], {
      env: { ...process.env, ...softwareVulkan },
    });
    // Written by the child, whose fields are these.
    const { errors, generated, largest, bindingBytesMax } = JSON.parse(
      stdout.trim().split('\n').at(-1)!,
    ) as Report;
    for (const error of errors) expect(error).toBeLessThan(TOLERANCE);
    const tokens = (all: Generated) =>
      all.map((sequences) => sequences.map((slots) => slots.map(([id, layer]) => [id, layer])));
    expect(tokens(generated.webgpu)).toEqual(tokens(generated.cpu));
    generated.webgpu.flat(2).forEach(([, , entropy], slot) => {
      const expected = generated.cpu.flat(2)[slot]![2];
      if (entropy !== null) expect(entropy).toBeCloseTo(expected!, 4);
    });
    expect(largest).toBeLessThanOrEqual(bindingBytesMax);
  });
});
