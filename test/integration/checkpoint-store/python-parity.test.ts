import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CheckpointStore, TensorFile } from '../../../src/checkpoint/index.ts';
import { KEEP_ALL, LAYOUT, SIZE, sectionBytes, writeCheckpoint } from '../../support/checkpoint-fixtures.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

/** Reads our file, lists what it found, and saves the same tensors in its own order. */
const SCRIPT = `
import json, sys
from safetensors.numpy import load_file, save_file
tensors = load_file(sys.argv[1])
save_file(tensors, sys.argv[2], metadata={"from": "python"})
print(json.dumps({name: [list(t.shape), t.tobytes().hex()] for name, t in tensors.items()}))
`;

function python(script: string, ...args: string[]): string | null {
  try {
    return execFileSync('python3', ['-c', script, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return null;
  }
}

describe('the safetensors package of Python', () => {
  it('reads what we write, and we read what it writes', async ({ skip }) => {
    if (python('import safetensors.numpy') === null)
      skip('needs python3 with the packages safetensors and numpy');
    const store = await CheckpointStore.open(await temporaryFolder(), KEEP_ALL);
    await writeCheckpoint(store, 4);
    const ours = join(store.dir, 'step-00000004', 'model.safetensors');
    const theirs = join(store.dir, 'theirs.safetensors');
    const found = python(SCRIPT, ours, theirs);
    expect(found).not.toBeNull();

    const expected = Buffer.from(sectionBytes('parameters', 4));
    const tensors: Record<string, [number[], string]> = JSON.parse(found!);
    expect(Object.keys(tensors).sort()).toEqual(LAYOUT.map(({ name }) => name).sort());
    for (const { name, shape, offset, size } of LAYOUT) {
      expect(tensors[name]).toEqual([
        shape,
        expected.subarray(4 * offset, 4 * (offset + size)).toString('hex'),
      ]);
    }

    const file = await TensorFile.open(theirs);
    expect(file.metadata).toEqual({ from: 'python' });
    expect(file.layout.reduce((sum, { size }) => sum + size, 0)).toBe(SIZE);
    for (const { name, shape, offset, size } of file.layout) {
      const bytes = new Uint8Array(4 * size);
      await file.read(offset, bytes);
      expect([shape, Buffer.from(bytes).toString('hex')]).toEqual(tensors[name]);
    }
    await file.close();
  });

  it('refuses our file when it is cut, as we do', async ({ skip }) => {
    if (python('import safetensors.numpy') === null)
      skip('needs python3 with the packages safetensors and numpy');
    const store = await CheckpointStore.open(await temporaryFolder(), KEEP_ALL);
    await writeCheckpoint(store, 4);
    const path = join(store.dir, 'step-00000004', 'optimizer.safetensors');
    expect(python(SCRIPT, path, '/dev/null')).not.toBeNull();
    await writeFile(path, (await readFile(path)).subarray(0, -1));
    expect(python(SCRIPT, path, '/dev/null')).toBeNull();
    await expect(TensorFile.open(path)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
  });
});
