import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../../../src/evaluate/evaluate.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { Results } from '../../../src/report/results.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { hasVulkan, vulkanEnvironment } from '../../helpers/vulkan.js';
import { temporaryFolder } from '../support/environment.js';

describe.runIf(hasVulkan())('an evaluation on the WebGPU provider', () => {
  const folder = temporaryFolder();
  const before = { ...process.env };
  let onGpu: Results;
  let onCpu: Results;

  beforeAll(async () => {
    const quantized = path.join(folder, 'int8');
    await quantize({
      ...{ pipeline: MICRO_PIPELINE, output: quantized, scheme: 'ffn', target: 'webgpu', method: 'minmax' },
      ...{ percentile: 99.999, keep: [], link: true },
    });
    const on = (device: string): Promise<Results> =>
      evaluate({
        ...{ reference: MICRO_PIPELINE, quantized, device, deviceVae: 'cpu' },
        ...{ prompts: ['a small red circle moving left over a dark background'], negativePrompt: '', seed: 3 },
        ...{ seedsPerPrompt: 1, steps: 1, guidance: 1, sigmas: [0.5], inspected: 1, noiseFloor: 'none' },
      });
    onCpu = await on('cpu');
    Object.assign(process.env, vulkanEnvironment());
    onGpu = await on('webgpu');
  }, 300_000);
  afterAll(() => {
    process.env = before;
  });

  it('ran there, but for nodes that the provider left to the CPU', () => {
    const of = (component: string) => onGpu.devices.find((row) => row.component === component);
    for (const component of ['reference transformer', 'quantized transformer']) {
      expect(of(component)).toMatchObject({ asked: 'webgpu', ran: 'webgpu', refused: [] });
      const { WebGpuExecutionProvider: gpu = 0, CPUExecutionProvider: cpu = 0 } = of(component)?.nodes ?? {};
      expect(gpu).toBeGreaterThan(500);
      expect(cpu).toBeLessThan(gpu / 2);
    }
    expect(of('vae_decoder')).toMatchObject({ asked: 'cpu', ran: 'cpu' });
  });

  it('measured what the CPU measures, less the activations that its kernel for INT8 weights rounds', () => {
    const figure = (results: Results, name: string): number => results.metrics[name]?.value as number;
    for (const name of ['sqnr', 'sqnr_min', 'linear_sqnr_min']) {
      expect(figure(onGpu, name), name).toBeGreaterThan(figure(onCpu, name));
      expect(figure(onGpu, name), name).toBeLessThan(figure(onCpu, name) + 10);
    }
    expect(figure(onGpu, 'psnr_drop')).toBeCloseTo(figure(onCpu, 'psnr_drop'), 1);
    expect(figure(onGpu, 'linear_excess')).toBe(0);
  });
});
