/**
 * The WebGPU adapters of this machine, and the choice of one. Dawn's binding for Node answers a request
 * with one adapter, the first whose name contains what it was asked for; it lists the names it knows
 * only in the error about a name that it does not know. So two cards of the same name cannot be told apart.
 */
import { LockstepError } from '../base/index.ts';

export interface Adapter {
  /** As `--device` counts them. */
  readonly index: number;
  readonly name: string;
  /** `vulkan`, `metal` or `d3d12`. */
  readonly api: string;
  readonly vendor: string;
  readonly driver: string;
  /** Computes on the CPU: for tests. */
  readonly isSoftware: boolean;
  /** Largest buffer, in bytes. What a shader is given of one may be less: of tables it then gets ranges of rows. */
  readonly tensorBytesMax: number;
  /** Those of WebGPU's features that decide how fast a card can train. */
  readonly features: readonly string[];
}

/** What to do where there is no adapter. */
export const ADAPTER_REMEDY =
  "install the graphics card's driver and the Vulkan loader (apt-get install libvulkan1), or use another --engine";

/** What is written for a person about an adapter. */
export function adapterText({ index, name, isSoftware }: Adapter): string {
  return `${index} ${name}${isSoftware ? ' (software)' : ''}`;
}

/**
 * The adapter that `device` names, by index or part of its name; without one the first that is a card,
 * else the first. Throws CONFIG_INVALID where there is none such.
 */
export function chooseAdapter(adapters: readonly Adapter[], device: string | null): Adapter {
  const chosen =
    device === null
      ? (adapters.find(({ isSoftware }) => !isSoftware) ?? adapters[0])
      : adapters.find(({ index, name }) =>
          /^\d+$/.test(device) ? index === Number(device) : name.includes(device),
        );
  if (chosen === undefined) {
    const those = adapters.length === 0 ? 'none' : adapters.map(adapterText).join(', ');
    throw new LockstepError(
      'CONFIG_INVALID',
      `--device ${device}: no such WebGPU adapter; this machine has: ${those}`,
      {
        context: { field: '--device', value: device },
      },
    );
  }
  const first = adapters.find(({ name, api }) => name.includes(chosen.name) && api === chosen.api);
  if (first !== undefined && first !== chosen) {
    throw new LockstepError(
      'CONFIG_INVALID',
      `--device ${device}: ${chosen.name} cannot be told from ${adapterText(first)} by name, and Dawn takes the first; ` +
        'start a container for each card that sees only this one, or use --engine tensorflow',
      { context: { field: '--device', value: device } },
    );
  }
  return chosen;
}

/**
 * For the trial process (probe.ts): lists the adapters with `create` of the package `webgpu`. Plain
 * JavaScript, for it runs there as text.
 */
export const LIST_ADAPTERS = `
  async function listAdapters(create) {
    let text = '';
    try {
      await create(['adapter=\\u0001']).requestAdapter();
    } catch (error) {
      text = error.message;
    }
    const found = [...text.matchAll(/backend: '([^']*)', name: '([^\\n]*)'$/gm)]
      .filter(([, api]) => ['vulkan', 'metal', 'd3d12'].includes(api));
    return Promise.all(found.map(async ([, api, name], index) => {
      const { info, limits, features } = await create(['backend=' + api, 'adapter=' + name]).requestAdapter();
      return {
        index, name, api, vendor: info.vendor, driver: info.description,
        isSoftware: info.isFallbackAdapter || /llvmpipe|swiftshader/i.test(name),
        tensorBytesMax: limits.maxBufferSize,
        features: ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix', 'timestamp-query']
          .filter((feature) => features.has(feature)),
      };
    }));
  }`;
