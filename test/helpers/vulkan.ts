import { existsSync } from 'node:fs';
import path from 'node:path';

/** A Vulkan driver: the one that is named, or the SwiftShader that Debian's chromium-common brings, with its loader beside it. */
const DRIVER = process.env.VK_ICD_FILENAMES ?? '/usr/lib/chromium/vk_swiftshader_icd.json';

/**
 * Whether tests may run models on the WebGPU provider. Without a driver they are skipped, and that is said.
 * @throws Error where WANQ_REQUIRE_WEBGPU=1 and there is none
 */
export function hasVulkan(): boolean {
  if (existsSync(DRIVER)) return true;
  if (process.env.WANQ_REQUIRE_WEBGPU === '1') throw new Error(`there is no Vulkan driver at ${DRIVER}`);
  console.warn(`skipped the WebGPU provider: there is no Vulkan driver at ${DRIVER}`);
  return false;
}

/** What a process needs in its environment to find the driver. */
export function vulkanEnvironment(): Record<string, string> {
  return {
    VK_ICD_FILENAMES: DRIVER,
    LD_LIBRARY_PATH: [path.dirname(DRIVER), process.env.LD_LIBRARY_PATH].filter(Boolean).join(':'),
  };
}
