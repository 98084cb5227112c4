import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import { Graph, Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { refuseUnsupported } from '../../../src/quantize/support.js';
import { thrownBy } from '../helpers/errors.js';
import { graph, model, node } from '../helpers/graphs.js';

/** Of ONNX, and of onnxruntime's com.microsoft. */
const QUANTIZED = [
  ...['QuantizeLinear', 'DequantizeLinear', 'DynamicQuantizeLinear', 'QLinearMatMul', 'QLinearConv'],
  ...['MatMulInteger', 'ConvInteger'],
  ...['MatMulIntegerToFloat', 'MatMulInteger16', 'DynamicQuantizeMatMul', 'DynamicQuantizeLSTM', 'QAttention', 'QGemm'],
  ...['QLinearAdd', 'QLinearSoftmax', 'QEmbedLayerNormalization', 'QMoE', 'QOrderedMatMul', 'MatMulNBits'],
  ...['MatMulBnb4', 'MatMulFpQ4', 'GatherBlockQuantized', 'QuantizeBFP', 'DequantizeBFP', 'QuantizeWithOrder'],
];

/** Of float graphs, with names not unlike those. */
const FLOAT = ['MatMul', 'FusedMatMul', 'Gemm', 'Attention', 'MultiHeadAttention', 'Conv', 'Cast', 'QuickGelu', 'MoE'];

const refusal = (made: Model): { code: string; message: string } =>
  thrownBy(() => refuseUnsupported(made, 'model.onnx'));

const inside = (value: Graph): Node => node('If', ['x'], 'y', [{ name: 'then_branch', type: 'graph', value }]);

describe('refuseUnsupported refuses what is quantized', () => {
  it.each(QUANTIZED)('by %s', (opType) => {
    const made = model({ nodes: [node('Relu', ['x'], 'a'), node(opType, ['a'], 'y')], inputs: ['x'] });
    expect(refusal(made)).toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: `model.onnx is quantized already (it has ${opType})`,
    });
  });

  it.each(QUANTIZED)('by %s in a subgraph', (opType) => {
    const deep = graph({ nodes: [node('Relu', ['x'], 'a'), node(opType, ['a'], 'b')] });
    const made = model({ nodes: [inside(graph({ nodes: [inside(deep)] }))], inputs: ['x'] });
    expect(refusal(made).message).toContain(`it has ${opType}`);
  });

  it('by an operator in a function', () => {
    const body = [new Node({ opType: 'DequantizeLinear', inputs: ['a', 's'], outputs: ['r'] })];
    const made = model({ nodes: [node('f', ['x'], 'y')], inputs: ['x'] });
    made.functions = [
      { domain: '', name: 'f', overload: '', inputs: ['a'], outputs: ['r'], defaults: [], nodes: body, opsets: [] },
    ];
    expect(refusal(made).message).toContain('it has DequantizeLinear');
  });

  it('whatever its inputs are of', () => {
    expect(refusal(of('int8', [node('QLinearConv', ['x'], 'y')])).message).toContain('quantized already');
  });

  it('and says that wanq did it', () => {
    const made = model({
      nodes: [node('MatMul', ['x', 'w'], 'y')],
      initializers: [Tensor.float32('w', [1, 1], [1])],
      inputs: ['x'],
    });
    expect(() => refuseUnsupported(made, 'model.onnx')).not.toThrow();
    const activation = { dtype: 'int8', scale: 1, zeroPoint: 0 } as const;
    quantizeLinears(findLinears(made.graph).map((linear) => ({ linear, activation }))).run(made);
    expect(refusal(made).message).toContain('it has QuantizeLinear');
    made.metadata.set('wanq.version', '0.1.0');
    expect(refusal(made)).toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: 'model.onnx is quantized already (by wanq)',
    });
  });

  it('on one line', () => {
    const made = model({ nodes: [node('QLinear\nforged', ['x'], 'y')], inputs: ['x'] });
    expect(refusal(made).message).not.toContain('\n');
  });
});

/** A model whose first input is of a type. */
function of(dtype: DataTypeName | null, nodes = [node('Relu', ['x'], 'y')]): Model {
  const inputs = [{ name: 'x', dtype, dims: null }];
  const made = new Graph({ name: 'g', nodes, initializers: [], inputs, outputs: [] });
  return new Model({ irVersion: 10, opsets: [{ domain: '', version: 21 }], graph: made });
}

describe('refuseUnsupported', () => {
  it.each<DataTypeName>(['float32', 'float16', 'int64', 'int32'])('takes inputs of %s', (dtype) => {
    expect(() => refuseUnsupported(of(dtype), 'model.onnx')).not.toThrow();
  });

  it.each<DataTypeName>(['float64', 'bfloat16', 'bool', 'float8e4m3fn'])('refuses inputs of %s', (dtype) => {
    expect(refusal(of(dtype))).toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: `model.onnx takes its input x in ${dtype}`,
    });
  });

  it('refuses inputs of an unknown type, in any place', () => {
    const message = 'model.onnx takes its input x in an unknown type';
    expect(refusal(of(null))).toMatchObject({ code: 'MODEL_UNSUPPORTED', message });
    const made = of(null);
    made.graph.inputs.unshift({ name: 'timestep', dtype: 'int64', dims: [1] });
    expect(refusal(made).message).toBe(message);
  });

  it('takes an input of any type that has a default', () => {
    const made = of('float64');
    made.graph.addInitializer(Tensor.float64('x', [1], [1]));
    expect(() => refuseUnsupported(made, 'model.onnx')).not.toThrow();
  });

  it('takes graphs that only a metadata entry names', () => {
    const made = of('float32');
    made.metadata.set('wanq.version', '0.1.0');
    expect(() => refuseUnsupported(made, 'model.onnx')).not.toThrow();
  });

  it.each(FLOAT)('takes %s, which is not quantized', (opType) => {
    expect(() => refuseUnsupported(of('float32', [node(opType, ['x'], 'y')]), 'model.onnx')).not.toThrow();
  });
});
