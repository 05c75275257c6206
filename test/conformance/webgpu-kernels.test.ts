/**
 * Each own kernel of the webgpu engine against the plain form, value and gradients, on a software driver of
 * graphics cards: sizes that no tile divides, and a device that lets a shader see only part of a table.
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
const CHILD = join(import.meta.dirname, '..', 'support', 'children', 'webgpu-kernels.mjs');
const lacking = softwareVulkanLacks === null ? '' : ` (${softwareVulkanLacks})`;

interface Report {
  readonly report: readonly {
    readonly name: string;
    /** Of the value, then of each input's gradient. */
    readonly errors: readonly number[];
    /** Whether a second time gave the same bits. */
    readonly repeats: boolean;
  }[];
  readonly extreme: { readonly sum: number; readonly sumOnly: number };
  /** By three rows of tables of 75 and 175: the first of all, the first of the last equals, the first of the least. */
  readonly predicted: readonly (readonly number[])[];
  readonly tilesAgree: boolean;
  /** Lanes that exchange directly, and whether that gives the bits of the way through memory. */
  readonly subgroups: { readonly lanes: number; readonly agree: boolean };
  /** What of a table's lookups is not as on the host, to the bit. */
  readonly tableDifferences: readonly string[];
  readonly leaked: number;
}

describe.skipIf(softwareVulkanLacks !== null)(`own kernels of engine webgpu${lacking}`, () => {
  it('compute what the plain form does, repeat themselves to the bit, and keep nothing', {
    timeout: LIMIT_MS,
  }, async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [CHILD, BUILT], {
      env: { ...process.env, ...softwareVulkan },
    });
    // Written by the child, whose fields are these.
    const { report, extreme, predicted, tilesAgree, subgroups, tableDifferences, leaked } = JSON.parse(
      stdout.trim().split('\n').at(-1)!,
    ) as Report;

    for (const { name, errors, repeats } of report) {
      for (const error of errors) expect(error, name).toBeLessThan(TOLERANCE);
      expect(repeats, name).toBe(true);
    }
    expect(extreme.sum).toBeGreaterThan(1000);
    expect(extreme.sumOnly).toBe(extreme.sum);
    expect(predicted).toEqual([
      [0, 60, 0],
      [0, 160, 0],
    ]);
    expect(tilesAgree).toBe(true);
    expect(subgroups).toEqual({ lanes: expect.toSatisfy((lanes) => lanes > 1), agree: true });
    expect(tableDifferences).toEqual([]);
    expect(leaked).toBe(0);
  });
});
