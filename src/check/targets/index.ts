import type { Target } from '../../quantize/target.js';
import type { Rule } from '../verdict.js';
import { directml } from './directml.js';
import { ortCpu } from './ort-cpu.js';
import { ortCuda } from './ort-cuda.js';
import { tensorrt } from './tensorrt.js';
import { webgpu } from './webgpu.js';

/** How each target's runtime is judged. */
export const RULES: Readonly<Record<Target, Rule>> = {
  'ort-cpu': ortCpu,
  tensorrt,
  'ort-cuda': ortCuda,
  directml,
  webgpu,
};
