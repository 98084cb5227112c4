import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { int } from '../../../src/ir/attribute.js';
import type { Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import type { ActivationScale } from '../../../src/numerics/int8.js';
import { randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { runPasses } from '../../../src/passes/pass.js';
import { quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import { float32Tensor } from '../../../src/runtime/tensor.js';
import { memory } from '../../helpers/source.js';
import { floats, relativeDeviation } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, modelOf, node, transpose, value } from '../support/graphs.js';

const ROWS = 5;
const IN = 48;
const OUT = 20;
const host = sharedHost();
const folder = temporaryFolder();

const x = randn(1, ROWS * IN).map((v) => v + 0.3);
/** [in, out]; the third output channel is all zeros. */
const weight = randn(2, IN * OUT).map((v, i) => (i % OUT === 2 ? 0 : v * (1 + (i % OUT))));
const bias = randn(3, OUT);
const rowMajor = Tensor.float32('weight', [IN, OUT], weight);
const transposed = Tensor.float32(
  'weight',
  [OUT, IN],
  weight.map((_, i) => weight[(i % IN) * OUT + Math.floor(i / IN)] as number),
);
const biasTensor = Tensor.float32('bias', [OUT], bias);

const LAYOUTS: Record<string, { weight: Tensor; nodes: () => Node[] }> = {
  'MatMul and Add': {
    weight: rowMajor,
    nodes: () => [node('MatMul', ['x', 'weight'], 'product'), node('Add', ['product', 'bias'], 'y')],
  },
  'MatMul with a transposed weight': {
    weight: transposed,
    nodes: () => [
      transpose('weight', 'turned'),
      node('MatMul', ['x', 'turned'], 'product'),
      node('Add', ['product', 'bias'], 'y'),
    ],
  },
  'Gemm with transB': {
    weight: transposed,
    nodes: () => [node('Gemm', ['x', 'weight', 'bias'], 'y', [int('transB', 1)])],
  },
  'Gemm without transB': { weight: rowMajor, nodes: () => [node('Gemm', ['x', 'weight', 'bias'], 'y')] },
};

const SCALES: Record<string, ActivationScale> = {
  int8: { dtype: 'int8', scale: Math.fround(2.5 / 127), zeroPoint: 0 },
  uint8: { dtype: 'uint8', scale: Math.fround(4 / 255), zeroPoint: 90 },
};

function roundHalfToEven(v: number): number {
  const floor = Math.floor(v);
  if (v - floor !== 0.5) return Math.round(v);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** What QuantizeLinear and DequantizeLinear make of x. */
function throughInt8(v: number, scale: number, zeroPoint: number, low: number, high: number): number {
  const code = Math.min(high, Math.max(low, roundHalfToEven(Math.fround(v / scale)) + zeroPoint));
  return Math.fround((code - zeroPoint) * scale);
}

function simulate({ dtype, scale, zeroPoint }: ActivationScale): Float64Array {
  const [low, high] = dtype === 'int8' ? [-128, 127] : [0, 255];
  const scales = Array.from({ length: OUT }, (_, c) => {
    const largest = Math.max(...Array.from({ length: IN }, (__, k) => Math.abs(weight[k * OUT + c] as number)));
    return Math.fround(largest / 127) || 1;
  });
  const a = x.map((v) => throughInt8(v, scale, zeroPoint, low, high));
  const w = weight.map((v, i) => throughInt8(v, scales[i % OUT] as number, 0, -127, 127));
  return Float64Array.from({ length: ROWS * OUT }, (_, i) => {
    const row = Math.floor(i / OUT);
    let sum = bias[i % OUT] as number;
    for (let k = 0; k < IN; k++) sum += (a[row * IN + k] as number) * (w[k * OUT + (i % OUT)] as number);
    return sum;
  });
}

async function quantized(layout: string, activation: ActivationScale): Promise<string> {
  const { weight: stored, nodes } = LAYOUTS[layout] as (typeof LAYOUTS)[string];
  const model = modelOf({
    nodes: nodes(),
    initializers: [stored, biasTensor],
    inputs: [value('x', 'float32', [ROWS, IN])],
    outputs: [value('y', 'float32', [ROWS, OUT])],
  });
  const target = await mkdtemp(path.join(folder, 'model-'));
  const linears = findLinears(model.graph).map((linear) => ({ linear, activation }));
  expect(linears).toHaveLength(1);
  runPasses(model, [quantizeLinears(linears), topologicalSort, removeUnused]);
  await saveModel(model, memory, target);
  return path.join(target, 'model.onnx');
}

describe.each(Object.keys(LAYOUTS))('%s, quantized', (layout) => {
  it.each(Object.keys(SCALES))(
    'computes what QuantizeLinear and DequantizeLinear say, with %s activations',
    async (dtype) => {
      const activation = SCALES[dtype] as ActivationScale;
      const expected = simulate(activation);
      const file = await quantized(layout, activation);
      const session = await host.createSession({ path: file }, { ...CPU, optimization: 'disabled' });
      const { outputs } = await session.run({ x: float32Tensor(x, [ROWS, IN]) });
      expect(relativeDeviation(floats(outputs, 'y'), expected)).toBeLessThan(1e-5);
    },
  );

  it('multiplies an INT8 initializer through a DequantizeLinear per output channel, and nothing else', async () => {
    const file = await quantized(layout, SCALES.int8 as ActivationScale);
    const loaded = await loadModel(file);
    await loaded.close();
    const { nodes, initializers } = loaded.model.graph;
    const linear = nodes.find(({ opType }) => opType === 'MatMul' || opType === 'Gemm');
    const dequantize = nodes.find(({ outputs }) => outputs[0] === linear?.inputs[1]);
    expect(dequantize?.opType).toBe('DequantizeLinear');
    const [values, scales, zeros] = (dequantize?.inputs ?? []).map((name) => initializers.get(name));
    expect(values?.dtype).toBe('int8');
    expect(values?.dims).toEqual([IN, OUT]);
    expect(dequantize?.intAttribute('axis', -1)).toBe(1);
    expect(scales?.dims).toEqual([OUT]);
    expect(zeros && new Int8Array(await loaded.read(zeros))).toEqual(new Int8Array(OUT));
    expect(initializers.has('weight')).toBe(false);
    expect(nodes.map(({ opType }) => opType)).not.toContain('Transpose');
  });
});

it('shares one Q/DQ pair among linears that read one activation', () => {
  const model = modelOf({
    nodes: [node('MatMul', ['x', 'weight'], 'a'), node('MatMul', ['x', 'other'], 'b')],
    initializers: [rowMajor, Tensor.float32('other', [IN, OUT], weight.toReversed())],
    inputs: [value('x', 'float32', [ROWS, IN])],
    outputs: [value('a', 'float32', [ROWS, OUT]), value('b', 'float32', [ROWS, OUT])],
  });
  const linears = findLinears(model.graph).map((linear) => ({ linear, activation: SCALES.int8 as ActivationScale }));
  const pass = quantizeLinears(linears);
  expect(pass.run(model)).toBeDefined();
  expect(pass.run(model)).toBeUndefined();
  expect(model.graph.nodes.filter(({ opType }) => opType === 'QuantizeLinear')).toHaveLength(1);
});
