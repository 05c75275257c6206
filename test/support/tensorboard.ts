/**
 * TensorBoard itself as the judge of event files, from pip, in a virtual environment of its own that outlives
 * the tests. A stranger to the product: where it cannot be had, tests that need it say why and are skipped.
 */
import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { messageOf } from '../../src/base/index.ts';

const execute = promisify(execFile);
const INSTALL_LIMIT_MS = 5 * 60_000;

const READER = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'tensors': 0})
events.Reload()
scalars = {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}
texts = {tag: [[e.step, e.tensor_proto.string_val[0].decode('utf8'),
                events.SummaryMetadata(tag).plugin_data.plugin_name] for e in events.Tensors(tag)]
         for tag in events.Tags()['tensors']}
print(json.dumps({'scalars': scalars, 'texts': texts}))
`;

export interface ReadEvents {
  readonly scalars: Readonly<Record<string, readonly (readonly [step: number, value: number])[]>>;
  readonly texts: Readonly<
    Record<string, readonly (readonly [step: number, text: string, plugin: string])[]>
  >;
}

/** A Python that has TensorBoard, made if need be; or why there is none. */
export async function findTensorBoard(): Promise<{ python: string } | { reason: string }> {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const folder = join(cache, 'lockstep', 'tensorboard-venv');
  const python = join(folder, 'bin', 'python');
  const works = () => execute(python, ['-c', 'import tensorboard'], { timeout: 60_000 });
  try {
    await works();
    return { python };
  } catch {
    // Not made yet, or cut short.
  }
  try {
    await rm(folder, { recursive: true, force: true });
    await mkdir(join(cache, 'lockstep'), { recursive: true });
    await execute('python3', ['-m', 'venv', folder], { timeout: INSTALL_LIMIT_MS });
    const install = ['-m', 'pip', 'install', '--quiet', '--retries', '1', 'tensorboard'];
    await execute(python, install, { timeout: INSTALL_LIMIT_MS });
    await works();
    return { python };
  } catch (error) {
    return { reason: messageOf(error).slice(0, 200) };
  }
}

/** What TensorBoard finds in a folder of event files. */
export async function readEvents(python: string, folder: string): Promise<ReadEvents> {
  const { stdout } = await execute(python, ['-c', READER, folder], { timeout: 120_000 });
  return JSON.parse(stdout) as ReadEvents;
}
