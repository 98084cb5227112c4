import { WanqError } from '../errors.js';

/** `--device` to execution providers, in the order they are tried. */
const DEVICES: Record<string, readonly string[]> = {
  auto: ['cuda', 'dml', 'coreml', 'cpu'],
  cpu: ['cpu'],
  cuda: ['cuda'],
  tensorrt: ['tensorrt'],
  dml: ['dml'],
  coreml: ['coreml'],
  webgpu: ['webgpu'],
};

export const DEVICE_NAMES = Object.keys(DEVICES);

/**
 * Providers to try for a device. onnxruntime-node itself never falls back, so the order is ours; a device asked for by name is not
 * replaced by another one silently.
 *
 * @throws WanqError USAGE
 */
export function providersFor(device: string): readonly string[] {
  const providers = DEVICES[device];
  if (!providers) {
    throw new WanqError('USAGE', `unknown device "${device}"`, { hint: `choose one of ${DEVICE_NAMES.join(', ')}` });
  }
  return providers;
}
