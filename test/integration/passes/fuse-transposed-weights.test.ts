import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Model } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { randn } from '../../../src/numerics/rng.js';
import { type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { fuseTransposedWeights } from '../../../src/passes/fuse-transposed-weights.js';
import { runPasses } from '../../../src/passes/pass.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import type { SessionOptions } from '../../../src/runtime/protocol.js';
import { float32Tensor, type HostTensor } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { floats, relativeDeviation } from '../support/arrays.js';
import { sharedHost } from '../support/environment.js';
import { CPU, inMemory, modelOf, node, transpose, value } from '../support/graphs.js';

const host = sharedHost();

const [IN, OUT] = [48, 20];
const weight = Tensor.float32('weight', [OUT, IN], randn(1, OUT * IN));
const bias = Tensor.float32('bias', [OUT], randn(2, OUT));

/** x times the transpose of the stored weight, plus a bias. */
function product(lead: readonly number[]): Model {
  return modelOf({
    nodes: [
      transpose('weight', 'turned'),
      node('MatMul', ['x', 'turned'], 'product'),
      node('Add', ['product', 'bias'], 'y'),
    ],
    initializers: [weight, bias],
    inputs: [value('x', 'float32', [...lead, IN])],
    outputs: [value('y', 'float32', [...lead, OUT])],
  });
}

function fused(model: Model): Model {
  expect(runPasses(model, [fuseTransposedWeights, removeUnused]).map(({ pass }) => pass)).toEqual([
    'fuse-transposed-weights',
    'remove-unused',
  ]);
  return model;
}

async function run(model: Model, x: HostTensor, options: Partial<SessionOptions>): Promise<HostTensor> {
  const session = await host.createSession(inMemory(model), { ...CPU, ...options });
  return (await session.run({ x })).outputs.y as HostTensor;
}

describe.each<[string, Partial<SessionOptions>]>([
  ['as it is', { optimization: 'disabled' }],
  ['optimized', {}],
  ['without packed weights', { prepack: false }],
])('a product with a transposed weight, run %s', (_, options) => {
  it.each<[string, readonly number[]]>([
    ['a vector', []],
    ['a row', [1]],
    ['a matrix', [7]],
    ['a batch of matrices', [2, 5]],
    ['a batch of batches', [2, 1, 3]],
  ])('gives the same of %s after fusing', async (__, lead) => {
    const dims = [...lead, IN];
    const rows = lead.reduce((a, b) => a * b, 1);
    const x = float32Tensor(randn(3, rows * IN), dims);
    const [plain, other] = [await run(product(lead), x, options), await run(fused(product(lead)), x, options)];
    expect(other.dims).toEqual([...lead, OUT]);
    expect(relativeDeviation(floats({ y: other }, 'y'), floats({ y: plain }, 'y'))).toBeLessThan(1e-6);
  });
});

/** Stores the weights of a model's products as the 5B has them: [out, in], with a Transpose in front of the product. */
async function turnWeights({ model, read }: LoadedModel): Promise<number> {
  const { graph } = model;
  const linears = findLinears(graph).filter(({ kind }) => kind === 'MatMul');
  for (const { node: product, weight: stored, inFeatures, outFeatures } of linears) {
    const values = new Float32Array((await read(stored)).slice().buffer);
    const turned = values.map((_, i) => values[(i % inFeatures) * outFeatures + Math.floor(i / inFeatures)] as number);
    const name = `${product.name}_turned`;
    graph.addInitializer(Tensor.float32(name, [outFeatures, inFeatures], turned));
    graph.nodes.splice(graph.nodes.indexOf(product), 0, transpose(name, `${name}_back`));
    product.inputs = [product.inputs[0] as string, `${name}_back`];
  }
  return linears.length;
}

it('predicts the same with the micro transformer, its weights transposed, after fusing all its products', async () => {
  const loaded = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
  const products = await turnWeights(loaded);
  await loaded.close();
  const plain = inMemory(loaded.model);
  const { nodes } = fused(loaded.model).graph;
  expect(nodes.filter(({ opType }) => opType === 'FusedMatMul')).toHaveLength(products);
  expect(products).toBeGreaterThan(60);
  const feeds = {
    hidden_states: float32Tensor(randn(4, 12 * 2 * 6 * 6), [1, 12, 2, 6, 6]),
    timestep: float32Tensor(Float32Array.of(500), [1]),
    encoder_hidden_states: float32Tensor(randn(5, 8 * 64), [1, 8, 64]),
  };
  const [expected, actual] = await Promise.all(
    [plain, inMemory(loaded.model)].map(async (source) => {
      const session = await host.createSession(source, CPU);
      return floats((await session.run(feeds)).outputs, 'out_sample');
    }),
  );
  expect(relativeDeviation(actual as Float32Array, expected as Float32Array)).toBeLessThan(1e-5);
});
