/** The NVIDIA cards of this machine, as the kernel's driver lists them; no program of NVIDIA's is needed. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const DRIVER_FOLDER = '/proc/driver/nvidia/gpus';

/** Names in the order of their bus addresses, as `nvidia-smi` counts them; empty without a driver. */
export function nvidiaCards(folder = DRIVER_FOLDER): readonly string[] {
  try {
    return readdirSync(folder)
      .sort()
      .map((address) => {
        const text = readFileSync(join(folder, address, 'information'), 'utf8');
        return /^Model:\s*(.*\S)/m.exec(text)?.[1] ?? 'NVIDIA card';
      });
  } catch {
    // No driver, or not on Linux.
    return [];
  }
}
