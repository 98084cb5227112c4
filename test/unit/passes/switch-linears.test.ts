import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Graph, Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { subgraphs, valuesRead } from '../../../src/ir/traverse.js';
import { type ActivationScale, quantizeWeight } from '../../../src/numerics/int8.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { runPasses } from '../../../src/passes/pass.js';
import type { QuantizedLinear } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { SWITCH_INPUT, switchLinears } from '../../../src/passes/switch-linears.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import { read } from '../../helpers/source.js';
import { expectRefusal } from '../helpers/errors.js';
import { model, node, readFloats } from '../helpers/graphs.js';

const activation: ActivationScale = { dtype: 'uint8', scale: 0.5, zeroPoint: 7 };
const W = Float32Array.of(1, -2, 3, 40, -50, 60);

/** x [*, 2] -> MatMul -> Gemm of the transpose with a bias; and a second MatMul by the first's weight. */
function made(): Model {
  return model({
    nodes: [
      node('MatMul', ['x', 'w'], 'a'),
      node('Gemm', ['a', 'v', 'bias'], 'b', [{ name: 'transB', type: 'int', value: 1 }]),
      node('MatMul', ['b', 'w'], 'y'),
    ],
    initializers: [
      Tensor.float32('w', [2, 3], W),
      Tensor.float32(
        'v',
        [2, 3],
        W.map((value) => 2 * value),
      ),
      Tensor.float32('bias', [2], [5, 6]),
    ],
    inputs: ['x'],
    outputs: ['y'],
  });
}

const quantized = ({ graph }: Model): QuantizedLinear[] => findLinears(graph).map((linear) => ({ linear, activation }));

function switched(factors?: Float32Array): Model {
  const result = made();
  runPasses(result, [
    switchLinears(quantized(result).map((each, i) => ({ quantized: each, factors: i === 0 ? factors : undefined }))),
  ]);
  return result;
}

interface Choice {
  readonly choice: Node;
  readonly quantized: Graph;
  readonly float: Graph;
}

function choices({ graph }: Model): Choice[] {
  return graph.nodes
    .filter(({ opType }) => opType === 'If')
    .map((choice) => {
      const [first, second] = subgraphs(choice) as [Graph, Graph];
      return { choice, quantized: first, float: second };
    });
}

const operators = ({ nodes }: Graph): string[] => nodes.map(({ opType }) => opType);

describe('switch-linears', () => {
  it('puts each linear into an If under the name of its result, its condition an element of one input', () => {
    const result = switched();
    expect(result.graph.inputs.at(-1)).toEqual({ name: SWITCH_INPUT, dtype: 'bool', dims: [3] });
    expect(operators(result.graph)).toEqual(['Gather', 'If', 'Gather', 'If', 'Gather', 'If']);
    expect(choices(result).map(({ choice }) => choice.outputs)).toEqual([['a'], ['b'], ['y']]);
    const gathers = result.graph.nodes.filter(({ opType }) => opType === 'Gather');
    expect(gathers.map(({ inputs }) => inputs[0])).toEqual([SWITCH_INPUT, SWITCH_INPUT, SWITCH_INPUT]);
  });

  it('keeps the product it was in one branch, and has the quantized one in the other', () => {
    const [first, second] = choices(switched()) as [Choice, Choice];
    expect(first.float.nodes).toMatchObject([{ opType: 'MatMul', inputs: ['x', 'w'] }]);
    expect(second.float.nodes).toMatchObject([{ opType: 'Gemm', inputs: ['a', 'v', 'bias'] }]);
    const quantizes = ['QuantizeLinear', 'DequantizeLinear', 'DequantizeLinear', 'MatMul'];
    expect(operators(first.quantized)).toEqual(quantizes);
    expect(operators(second.quantized)).toEqual([...quantizes, 'Sum']);
    expect(second.quantized.nodes.at(-1)?.inputs[1]).toBe('bias');
  });

  it('names nothing inside as anything outside, and leaves branches without initializers', () => {
    const result = switched(Float32Array.of(2, 4));
    const { graph } = result;
    const outside = new Set([...graph.initializers.keys(), ...graph.inputs.map(({ name }) => name)]);
    for (const { outputs } of graph.nodes) for (const name of outputs) outside.add(name);
    const inside = choices(result).flatMap(({ quantized: q, float: f }) => [q, f]);
    const made = inside.flatMap(({ nodes }) => nodes.flatMap(({ outputs }) => outputs));
    expect(new Set(made).size).toBe(made.length);
    expect(made.filter((name) => outside.has(name))).toEqual([]);
    expect(inside.map(({ initializers }) => initializers.size)).toEqual([0, 0, 0, 0, 0, 0]);
    const captured = graph.nodes.flatMap((each) => [...valuesRead(each)]);
    expect(captured.filter((name) => !outside.has(name))).toEqual([]);
  });

  it('stores one INT8 form of a weight that two linears read alike', async () => {
    const { graph } = switched();
    const codes = [...graph.initializers.values()].filter(({ dtype, dims }) => dtype === 'int8' && dims.length === 2);
    expect(codes).toHaveLength(2);
    const [w] = codes as [Tensor];
    expect([...new Int8Array(await read(w))]).toEqual([...quantizeWeight(W, 2, 3, 1).values]);
  });

  it('divides an activation in the quantized branch alone, and multiplies its weight', async () => {
    const result = switched(Float32Array.of(2, 4));
    const [first, second] = choices(result) as [Choice, Choice];
    const [mul] = first.quantized.nodes as [Node];
    expect([mul.opType, mul.inputs[0]]).toEqual(['Mul', 'x']);
    expect(await readFloats(result.graph.initializers.get(mul.inputs[1] as string) as Tensor)).toEqual([0.5, 0.25]);
    expect(first.float.nodes[0]?.inputs).toEqual(['x', 'w']);
    expect(second.quantized.nodes[0]?.opType).toBe('QuantizeLinear');
    const dequantize = first.quantized.nodes.find(({ inputs }) => inputs[0]?.includes('w_quantized')) as Node;
    const codes = result.graph.initializers.get(dequantize.inputs[0] as string) as Tensor;
    const scaled = W.map((value, i) => value * (i < 3 ? 2 : 4));
    expect([...new Int8Array(await read(codes))]).toEqual([...quantizeWeight(scaled, 2, 3, 1).values]);
  });

  it('does nothing a second time, and stands sorting and clearing away', () => {
    const result = switched();
    const before = operators(result.graph);
    runPasses(result, [switchLinears([]), topologicalSort, removeUnused]);
    expect(operators(result.graph)).toEqual(before);
    expect(result.graph.inputs).toHaveLength(2);
  });

  it('survives being written and read', () => {
    const result = switched();
    const bytes = encodeModel(
      Object.assign(result, {
        graph: Object.assign(result.graph, { initializers: new Map() }),
      }),
    );
    expect(choices(decodeModel(bytes)).map(({ quantized: q }) => operators(q).at(-1))).toEqual([
      'MatMul',
      'Sum',
      'MatMul',
    ]);
  });

  it('refuses FP16 scales where the opset has none', () => {
    const result = made();
    result.opsets = [{ domain: '', version: 17 }];
    const linears = quantized(result).map((each) => ({
      quantized: { ...each, scaleType: 'float16' } as QuantizedLinear,
    }));
    expectRefusal(() => runPasses(result, [switchLinears(linears)]), 'MODEL_UNSUPPORTED');
  });
});
