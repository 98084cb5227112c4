import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { int, ints } from '../../../src/ir/attribute.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf, halfToFloat32 } from '../../../src/numerics/half.js';
import { randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { roundWeights } from '../../../src/passes/round-weights.js';
import { storeFloat16 } from '../../../src/passes/store-float16.js';
import type { SessionOptions } from '../../../src/runtime/protocol.js';
import { float32Tensor, type HostTensor } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { memory } from '../../helpers/source.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, modelOf, node, transpose, value } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

const [IN, OUT] = [48, 20];
const weights = randn(1, OUT * IN).map((w, i) => (i % 7 === 0 ? w * 1e-6 : w * 30));
const bias = randn(2, OUT);

interface Layout {
  readonly dims: readonly number[];
  readonly input: readonly number[];
  readonly nodes: () => Node[];
}

const LAYOUTS: Record<string, Layout> = {
  'MatMul and Add': {
    dims: [IN, OUT],
    input: [5, IN],
    nodes: () => [node('MatMul', ['x', 'weight'], 'p'), node('Add', ['p', 'bias'], 'y')],
  },
  'MatMul with a transposed weight': {
    dims: [OUT, IN],
    input: [5, IN],
    nodes: () => [transpose('weight', 'turned'), node('MatMul', ['x', 'turned'], 'p'), node('Add', ['p', 'bias'], 'y')],
  },
  'Gemm with transB': {
    dims: [OUT, IN],
    input: [5, IN],
    nodes: () => [node('Gemm', ['x', 'weight', 'bias'], 'y', [int('transB', 1)])],
  },
  Conv: {
    dims: [OUT, 12, 2, 2],
    input: [1, 12, 6, 6],
    nodes: () => [node('Conv', ['x', 'weight', 'bias'], 'y', [ints('strides', [2, 2])])],
  },
};

function build(layout: string, weight: Float32Array, added: Float32Array): Model {
  const { dims, input, nodes } = LAYOUTS[layout] as Layout;
  return modelOf({
    nodes: nodes(),
    initializers: [Tensor.float32('weight', dims, weight), Tensor.float32('bias', [OUT], added)],
    inputs: [value('x', 'float32', input)],
    outputs: [{ name: 'y', dtype: 'float32', dims: null }],
  });
}

async function run(model: Model, x: HostTensor, options: Partial<SessionOptions>): Promise<HostTensor> {
  const target = await mkdtemp(path.join(folder, 'model-'));
  await saveModel(model, memory, target);
  const session = await host.createSession({ path: path.join(target, 'model.onnx') }, { ...CPU, ...options });
  return (await session.run({ x })).outputs.y as HostTensor;
}

const rounded = (values: Float32Array): Float32Array => halfToFloat32(float32ToHalf(values));

describe.each<[string, Partial<SessionOptions>]>([
  ['as it is', { optimization: 'disabled' }],
  ['optimized', {}],
])('a model whose weights are stored as float16, run %s', (_, options) => {
  it.each(Object.keys(LAYOUTS))('computes the same bits as with rounded weights: %s', async (layout) => {
    const { input } = LAYOUTS[layout] as Layout;
    const x = float32Tensor(
      randn(
        3,
        input.reduce((a, b) => a * b, 1),
      ),
      input,
    );
    const stored = build(layout, weights, bias);
    expect(storeFloat16(new Set(['weight', 'bias'])).run(stored)).toBeDefined();
    const [actual, expected, exact] = [
      await run(stored, x, options),
      await run(build(layout, rounded(weights), rounded(bias)), x, options),
      await run(build(layout, weights, bias), x, options),
    ];
    expect(actual).toEqual(expected);
    expect(actual).not.toEqual(exact);
  });
});

it('predicts the same bits with the micro transformer as with rounded weights', async () => {
  const saved = async (pass: 'stored' | 'rounded'): Promise<string> => {
    const loaded = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
    const { initializers } = loaded.model.graph;
    const names = [...initializers.values()].flatMap(({ name, dtype }) => (dtype === 'float32' ? [name] : []));
    expect(names.length).toBeGreaterThan(100);
    expect((pass === 'stored' ? storeFloat16(new Set(names)) : roundWeights).run(loaded.model)).toBeDefined();
    const target = await mkdtemp(path.join(folder, 'model-'));
    await saveModel(loaded.model, loaded, target);
    await loaded.close();
    return path.join(target, 'model.onnx');
  };
  const feeds = {
    hidden_states: float32Tensor(randn(4, 12 * 2 * 6 * 6), [1, 12, 2, 6, 6]),
    timestep: float32Tensor(Float32Array.of(500), [1]),
    encoder_hidden_states: float32Tensor(randn(5, 8 * 64), [1, 8, 64]),
  };
  const predict = async (file: string) => (await (await host.createSession({ path: file }, CPU)).run(feeds)).outputs;
  expect(await predict(await saved('stored'))).toEqual(await predict(await saved('rounded')));
});
