/** Runs children/engine-report.mjs: one engine, in a process of its own. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { EngineName } from '../../src/config/index.ts';
import { temporaryFolder } from './temporary-folder.ts';

export interface EngineReport {
  /** Summed loss before each of 16 steps (4 of the `mini` model). */
  readonly losses: readonly number[];
  /** Of the first gradient, and of the same computed again at the end. */
  readonly sha256: string;
  readonly repeatedSha256: string;
  readonly leakedTensors: number;
  /** Of objective soft: the summed loss, then the norm of each tensor's gradient. */
  readonly softNorms: readonly number[];
  /** The first. */
  readonly gradient: Float32Array;
}

const CHILD = join(import.meta.dirname, 'children', 'engine-report.mjs');

/**
 * @param source folder of the built program
 * @param size `mini` for a model that software WebGPU can bear
 * @param extent `gradient` for the first loss and gradient only
 */
export async function reportOfEngine(
  source: string,
  name: EngineName,
  threads: number,
  size: 'small' | 'mini' = 'small',
  extent: 'gradient' | 'whole' = 'whole',
): Promise<EngineReport> {
  const file = join(await temporaryFolder(), 'gradient.f32');
  const arguments_ = [CHILD, source, name, String(threads), file, size, extent];
  const { stdout } = await promisify(execFile)(process.execPath, arguments_);
  const line = stdout.trim().split('\n').at(-1)!;
  const bytes = await readFile(file);
  const gradient = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  // Written by the child, whose fields are these.
  return { ...(JSON.parse(line) as Omit<EngineReport, 'gradient'>), gradient };
}
