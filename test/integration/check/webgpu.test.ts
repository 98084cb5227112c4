import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkModel } from '../../../src/check/check.js';
import { int } from '../../../src/ir/attribute.js';
import type { Model } from '../../../src/ir/graph.js';
import { randn } from '../../../src/numerics/rng.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { RuntimeHost } from '../../../src/runtime/host.js';
import { float32Tensor } from '../../../src/runtime/tensor.js';
import {
  asLoaded,
  IN,
  matmul,
  node,
  pair,
  parameters,
  quantizedModel,
  SIGNED,
  weight,
} from '../../helpers/quantized.js';
import { hasVulkan, vulkanEnvironment } from '../../helpers/vulkan.js';
import { floats, relativeDeviation } from '../support/arrays.js';
import { temporaryFolder } from '../support/environment.js';

const weights = quantizedModel([weight(), matmul('x')], parameters());
const pairs = quantizedModel([...pair(), weight(), matmul()], parameters());
const integers = quantizedModel(
  [
    node('QuantizeLinear', ['x', 'xs', 'xz'], 'q'),
    node('MatMulInteger', ['q', 'wq'], 'p'),
    node('Cast', ['p'], 'y', [int('to', 1)]),
  ],
  parameters(SIGNED),
);

describe.runIf(hasVulkan())('the WebGPU provider', () => {
  const folder = temporaryFolder();
  const before = { ...process.env };
  let host: RuntimeHost;

  beforeAll(() => {
    Object.assign(process.env, vulkanEnvironment());
    host = new RuntimeHost();
    process.env = before;
  });
  afterAll(() => host.close());

  /** Operators of the graph with its copies between providers, and its result. */
  async function run(model: Model, provider: string): Promise<{ operators: string[]; y: Float32Array }> {
    const optimizedModelPath = path.join(folder, `${provider}.onnx`);
    const session = await host.createSession(
      { bytes: encodeModel(model), folder },
      { providers: [provider], optimizedModelPath, optimization: provider === 'cpu' ? 'disabled' : 'all' },
    );
    expect(session.info.provider).toBe(provider);
    const { outputs } = await session.run({ x: float32Tensor(randn(1, 3 * IN), [1, 3, IN]) });
    await session.release();
    const { nodes } = (await loadGraph(optimizedModelPath)).graph;
    return { operators: nodes.map(({ opType }) => opType), y: floats(outputs, 'y') };
  }

  it('dequantizes a weight itself, and computes what the CPU does', async () => {
    const [there, here] = [await run(weights, 'webgpu'), await run(weights, 'cpu')];
    expect(there.operators).toEqual(['DequantizeLinear', 'MatMul']);
    expect(relativeDeviation(there.y, here.y)).toBeLessThan(1e-4);
    expect(await checkModel(asLoaded(weights), 'webgpu')).toMatchObject({ weights: 1, float: 0 });
  });

  it.each<[string, Model]>([
    ['QuantizeLinear', pairs],
    ['QuantizeLinear and MatMulInteger', integers],
  ])('leaves %s to the CPU, and copies what it makes', async (_, model) => {
    const { operators } = await run(model, 'webgpu');
    expect(operators).toContain('MemcpyFromHost');
    expect(await checkModel(asLoaded(model), 'webgpu')).toMatchObject({ weights: 0, float: 1 });
  });
});
