/**
 * A Vulkan driver for machines without a graphics card: SwiftShader, as Debian's package `chromium` brings
 * it. Right, and slow: some 0.05 to 0.3 GFLOP/s.
 */
import { existsSync } from 'node:fs';

const FOLDER = '/usr/lib/chromium';
const DRIVER = `${FOLDER}/vk_swiftshader_icd.json`;

/** Why a test that needs the driver is skipped; null where it is there. */
export const softwareVulkanLacks = existsSync(DRIVER)
  ? null
  : `no software Vulkan driver: ${DRIVER} is not there (apt-get install chromium)`;

/** What a process is started with to find it; empty where it is not there. */
export const softwareVulkan: Readonly<Record<string, string>> =
  softwareVulkanLacks === null ? { VK_ICD_FILENAMES: DRIVER, LD_LIBRARY_PATH: FOLDER } : {};
