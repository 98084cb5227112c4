import { describe, expect, it } from 'vitest';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import { type Attribute, int } from '../../../src/ir/attribute.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf } from '../../../src/numerics/half.js';
import { randn } from '../../../src/numerics/rng.js';
import { replaceWeights } from '../../../src/passes/replace-weights.js';
import { float32Tensor } from '../../../src/runtime/tensor.js';
import { floats, relativeDeviation } from '../support/arrays.js';
import { sharedHost } from '../support/environment.js';
import { CPU, cast, inMemory, modelOf, node, transpose, value } from '../support/graphs.js';

const [ROWS, IN, OUT] = [3, 8, 5];
const host = sharedHost();
const x = randn(1, ROWS * IN);
/** `[OUT, IN]` and `[OUT]`, what is to be computed with. */
const [weight, bias] = [randn(2, OUT * IN), randn(3, OUT)];

const stored = (name: string, dims: number[], dtype: DataTypeName = 'float32'): Tensor => {
  const values = randn(
    4,
    dims.reduce((a, b) => a * b, 1),
  );
  return dtype === 'float16'
    ? Tensor.fromBytes(name, dtype, dims, asBytes(float32ToHalf(values)))
    : Tensor.float32(name, dims, values);
};

/** x `[ROWS, IN]` times a weight, plus a bias. */
function made(nodes: Node[], initializers: Tensor[]): Model {
  return modelOf({
    nodes,
    initializers,
    inputs: [value('x', 'float32', [ROWS, IN])],
    outputs: [value('y', 'float32', [ROWS, OUT])],
  });
}

const gemm = (flipped: boolean, more: Attribute[] = []): Node =>
  node('Gemm', ['x', 'w', 'b'], 'y', [int('transB', flipped ? 1 : 0), ...more]);

const GRAPHS: Readonly<Record<string, () => Model>> = {
  'a MatMul and an Add': () =>
    made([node('MatMul', ['x', 'w'], 'p'), node('Add', ['p', 'b'], 'y')], [stored('w', [IN, OUT]), stored('b', [OUT])]),
  'a bias before the product, and of two axes': () =>
    made(
      [node('MatMul', ['x', 'w'], 'p'), node('Add', ['b', 'p'], 'y')],
      [stored('w', [IN, OUT]), stored('b', [1, OUT])],
    ),
  'a weight behind a Transpose': () =>
    made(
      [transpose('w', 't'), node('MatMul', ['x', 't'], 'p'), node('Add', ['p', 'b'], 'y')],
      [stored('w', [OUT, IN]), stored('b', [OUT])],
    ),
  'a Gemm': () => made([gemm(false)], [stored('w', [IN, OUT]), stored('b', [OUT])]),
  'a Gemm that turns its weight': () => made([gemm(true)], [stored('w', [OUT, IN]), stored('b', [OUT])]),
  'a product in FP16': () =>
    made(
      [
        cast('x', 'h', 'float16'),
        node('MatMul', ['h', 'w'], 'p'),
        node('Add', ['p', 'b'], 's'),
        cast('s', 'y', 'float32'),
      ],
      [stored('w', [IN, OUT], 'float16'), stored('b', [OUT], 'float16')],
    ),
};

const linearOf = ({ graph }: Model): Linear => {
  const [linear, ...more] = findLinears(graph);
  if (!linear || more.length > 0) throw new Error('the graph has to have one linear');
  return linear;
};

const others = { weight: Tensor.float32('', [OUT, IN], weight), bias: Tensor.float32('', [OUT], bias) };

function expected(withBias: (out: number) => number): Float32Array {
  return Float32Array.from({ length: ROWS * OUT }, (_, i) => {
    const [row, out] = [Math.floor(i / OUT), i % OUT];
    let sum = withBias(out);
    for (let k = 0; k < IN; k++) sum += (x[row * IN + k] as number) * (weight[out * IN + k] as number);
    return sum;
  });
}

async function run(model: Model): Promise<Float32Array> {
  const session = await host.createSession(inMemory(model), CPU);
  const { outputs } = await session.run({ x: float32Tensor(x, [ROWS, IN]) }, ['y']);
  await session.release();
  return floats(outputs, 'y');
}

describe.each(Object.entries(GRAPHS))('in %s', (name, build) => {
  it('the product is that of the other weight and bias', async () => {
    const model = build();
    expect(replaceWeights([{ linear: linearOf(model), ...others }]).run(model)).toBe('1 linear with other weights');
    const deviation = relativeDeviation(
      await run(model),
      expected((out) => bias[out] as number),
    );
    expect(deviation).toBeLessThan(name.includes('FP16') ? 2e-3 : 1e-6);
  });

  it('the bias stays where there is no other', async () => {
    const model = build();
    replaceWeights([{ linear: linearOf(model), weight: others.weight }]).run(model);
    const old = randn(4, OUT);
    const deviation = relativeDeviation(
      await run(model),
      expected((out) => old[out] as number),
    );
    expect(deviation).toBeLessThan(name.includes('FP16') ? 2e-3 : 1e-6);
  });

  it('what is found afterwards is one linear of the same role and shape', () => {
    const model = build();
    const { role, inFeatures, outFeatures, computeType } = linearOf(model);
    replaceWeights([{ linear: linearOf(model), ...others }]).run(model);
    expect(linearOf(model)).toMatchObject({ role, inFeatures, outFeatures, computeType, factors: [] });
  });
});

it('takes a kernel for a convolution', async () => {
  const model = modelOf({
    nodes: [node('Conv', ['x', 'w', 'b'], 'y')],
    initializers: [stored('w', [OUT, IN, 1]), stored('b', [OUT])],
    inputs: [value('x', 'float32', [1, IN, ROWS])],
    outputs: [value('y', 'float32', [1, OUT, ROWS])],
  });
  replaceWeights([{ linear: linearOf(model), ...others }]).run(model);
  const columns = Float32Array.from(
    { length: IN * ROWS },
    (_, i) => x[(i % ROWS) * IN + Math.floor(i / ROWS)] as number,
  );
  const session = await host.createSession(inMemory(model), CPU);
  const { outputs } = await session.run({ x: float32Tensor(columns, [1, IN, ROWS]) }, ['y']);
  await session.release();
  const rows = expected((out) => bias[out] as number);
  const wanted = Float32Array.from(
    { length: OUT * ROWS },
    (_, i) => rows[(i % ROWS) * OUT + Math.floor(i / ROWS)] as number,
  );
  expect(relativeDeviation(floats(outputs, 'y'), wanted)).toBeLessThan(1e-6);
});

it('leaves a weight or a bias that others read to them', async () => {
  const model = made(
    [
      node('MatMul', ['x', 'w'], 'p'),
      node('Add', ['p', 'b'], 'y'),
      node('MatMul', ['y', 'v'], 'q'),
      node('Add', ['q', 'b'], 'z'),
    ],
    [stored('w', [IN, OUT]), stored('v', [OUT, OUT]), stored('b', [OUT])],
  );
  const [linear] = findLinears(model.graph) as [Linear];
  replaceWeights([{ linear, ...others }]).run(model);
  const last = model.graph.nodes.find(({ outputs }) => outputs[0] === 'z');
  expect(last?.inputs).toContain('b');
  expect(
    relativeDeviation(
      await run(model),
      expected((out) => bias[out] as number),
    ),
  ).toBeLessThan(1e-6);
});

it('refuses a product that is scaled, and a bias where none is added', () => {
  const scaled = made(
    [gemm(false, [{ name: 'alpha', type: 'float', value: 2 }])],
    [stored('w', [IN, OUT]), stored('b', [OUT])],
  );
  expect(() => replaceWeights([{ linear: linearOf(scaled), ...others }]).run(scaled)).toThrow('scales its product');
  const bare = made([node('MatMul', ['x', 'w'], 'y')], [stored('w', [IN, OUT])]);
  expect(() => replaceWeights([{ linear: linearOf(bare), ...others }]).run(bare)).toThrow('adds no bias');
});
