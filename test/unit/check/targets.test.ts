import { describe, expect, it } from 'vitest';
import { checkModel } from '../../../src/check/check.js';
import { int } from '../../../src/ir/attribute.js';
import type { Model } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import type { Target } from '../../../src/quantize/target.js';
import {
  asLoaded,
  codes,
  filled,
  half,
  IN,
  matmul,
  node,
  OUT,
  pair,
  parameters,
  quantizedModel,
  SIGNED,
  storedWeight,
  transposed,
  weight,
} from '../../helpers/quantized.js';

/** What a target makes of the one product of a graph: its kernel, or why it has none. */
async function verdict(model: Model, target: Target): Promise<string> {
  const { products } = await checkModel(asLoaded(model), target);
  expect(products).toHaveLength(1);
  const [{ outcome, kernel, reasons }] = products as [(typeof products)[number]];
  return outcome === 'float' ? `float: ${reasons.join('; ')}` : `${outcome}: ${kernel}`;
}

const HALVES = [half('xs', [], [0.05]), half('ws', [OUT], filled(OUT, 0.01))];
const signed = quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED));
const unsigned = quantizedModel([...pair(), weight(), matmul()], parameters());
const halves = quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED, ...HALVES), { dtype: 'float16' });
const weightOnly = quantizedModel([weight(), matmul('x')], parameters());
const activationOnly = quantizedModel(
  [...pair(), matmul('d', 'w')],
  parameters(SIGNED, Tensor.float32('w', [IN, OUT], filled(IN * OUT, 1))),
);
const integers = (activation: 'int8' | 'uint8', ...zeroPoints: Tensor[]): Model =>
  quantizedModel(
    [
      node('QuantizeLinear', ['x', 'xs', 'xz'], 'q'),
      node('MatMulInteger', ['q', 'wq', ...zeroPoints.map(({ name }) => name)], 'p'),
      node('Cast', ['p'], 'y', [int('to', 1)]),
    ],
    parameters({ dtype: activation, zeroPoint: 0 }, ...zeroPoints),
  );

describe('every target', () => {
  it.each<[Target, Model, RegExp]>([
    ['ort-cpu', unsigned, /^integer: MatMulIntegerToFloat$/],
    ['ort-cpu', integers('uint8'), /^integer: MatMulInteger$/],
    ['ort-cpu', integers('int8'), /^float: .*without vector instructions/],
    ['ort-cpu', weightOnly, /^weights: MatMulNBits$/],
    ['ort-cpu', activationOnly, /^float: its weight is in floats$/],
    ['tensorrt', signed, /^integer: INT8 MatMul$/],
    ['tensorrt', halves, /^integer: INT8 MatMul$/],
    ['tensorrt', unsigned, /^float: .*codes of uint8.*zero point that is not 0/],
    ['tensorrt', integers('int8'), /^float: the parser does not take MatMulInteger$/],
    ['tensorrt', weightOnly, /^weights: null$/],
    ['tensorrt', activationOnly, /^float: its weight is in floats$/],
    ['ort-cuda', integers('int8'), /^integer: MatMulInteger$/],
    ['ort-cuda', integers('int8', codes('az', [], [3], 'int8')), /^integer: MatMulInteger$/],
    ['ort-cuda', integers('int8', codes('az', [2], [0, 0], 'int8')), /^float: .*one zero point/],
    ['ort-cuda', integers('uint8'), /^float: MatMulInteger of uint8 by int8 has no kernel$/],
    ['ort-cuda', signed, /^float: .*fused into no product/],
    ['ort-cuda', activationOnly, /^float: .*fused into no product/],
    ['ort-cuda', weightOnly, /^weights: MatMulNBits$/],
    ['directml', unsigned, /^integer: MatMulIntegerToFloat$/],
    ['directml', signed, /^float: .*session\.qdqisint8allowed$/],
    ['directml', integers('int8'), /^integer: MatMulInteger$/],
    ['directml', weightOnly, /^weights: MatMulNBits$/],
    ['directml', activationOnly, /^float: its weight is in floats$/],
    ['webgpu', weightOnly, /^weights: DequantizeLinear$/],
    ['webgpu', unsigned, /^float: QuantizeLinear has no kernel/],
    ['webgpu', integers('int8'), /^float: MatMulInteger has no kernel/],
  ])('%s: %#', async (target, model, expected) => {
    expect(await verdict(model, target)).toMatch(expected);
  });
});

describe('tensorrt', () => {
  it.each<[string, Model, RegExp]>([
    [
      'a zero point of the weight',
      quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED, codes('wz', [OUT], filled(OUT, 1), 'int8'))),
      /its weight has a zero point that is not 0/,
    ],
    [
      'a scale that is fed',
      quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED, { without: 'xs' }), {
        inputs: [{ name: 'xs', dtype: 'float32', dims: [] }],
      }),
      /the scale of its activation is not a constant/,
    ],
    [
      'a scale for each channel of the activation',
      quantizedModel(
        [...pair('x', '', [int('axis', 2)]), weight(), matmul()],
        parameters(SIGNED, Tensor.float32('xs', [IN], filled(IN, 1)), codes('xz', [IN], filled(IN, 0), 'int8')),
      ),
      /a scale for each channel/,
    ],
    [
      'a scale for each input of the weight',
      quantizedModel(
        [...pair(), weight('wd', 0), matmul()],
        parameters(SIGNED, Tensor.float32('ws', [IN], filled(IN, 1)), codes('wz', [IN], filled(IN, 0), 'int8')),
      ),
      /not those of the product's outputs/,
    ],
    [
      'a weight that is computed',
      quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED, { without: 'wq' }), {
        inputs: [{ name: 'wq', dtype: 'int8', dims: [IN, OUT] }],
      }),
      /its weight is not a constant/,
    ],
    [
      'FP32 scales of an FP16 activation',
      quantizedModel([node('Cast', ['x'], 'h', [int('to', 10)]), ...pair('h'), weight(), matmul()], parameters(SIGNED)),
      /its activation of float16 is quantized with a scale of float32/,
    ],
    [
      'FP16 scales before opset 19',
      quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED, ...HALVES), { dtype: 'float16', opset: 17 }),
      /float16 from opset 19 on, and the model has 17/,
    ],
    [
      'a weight that is multiplied',
      quantizedModel(
        [...pair(), weight('a'), node('Mul', ['a', 'two'], 'wd'), matmul()],
        parameters(SIGNED, Tensor.float32('two', [], [2])),
      ),
      /Mul between the DequantizeLinear of its weight and the product/,
    ],
    [
      'an operator of onnxruntime',
      quantizedModel(
        [...pair(), weight(), node('FusedMatMul', ['d', 'wd'], 'y', [], 'com.microsoft')],
        parameters(SIGNED),
      ),
      /does not take com.microsoft.FusedMatMul/,
    ],
  ])('refuses %s', async (_, model, reason) => {
    expect(await verdict(model, 'tensorrt')).toMatch(reason);
  });

  it('takes a transposed weight', async () => {
    const model = quantizedModel(
      [...pair(), weight('t', 0), transposed('t', 'wd'), matmul()],
      parameters(SIGNED, storedWeight([OUT, IN])),
    );
    expect(await verdict(model, 'tensorrt')).toBe('integer: INT8 MatMul');
  });
});

describe('directml', () => {
  it('computes in FP16, and fuses no Gemm', async () => {
    const initializers = parameters({}, ...HALVES);
    const fp16 = quantizedModel([...pair(), weight(), matmul()], initializers, { dtype: 'float16' });
    expect(await verdict(fp16, 'directml')).toBe('integer: MatMulIntegerToFloat');
    const gemm = quantizedModel([...pair(), weight(), node('Gemm', ['d', 'wd'], 'y')], parameters(), {
      dims: ['tokens', IN],
    });
    expect(await verdict(gemm, 'directml')).toContain('Gemm is fused for the CPU alone');
  });
});

it('webgpu asks for a device that computes in FP16 where the product does', async () => {
  const model = quantizedModel([weight(), matmul('x')], parameters({}, half('ws', [OUT], filled(OUT, 0.01))), {
    dtype: 'float16',
  });
  const { products } = await checkModel(asLoaded(model), 'webgpu');
  expect(products[0]?.notes.join()).toContain('shader-f16');
});

it.each(['ort-cpu', 'tensorrt', 'directml'] as const)('%s is not to be given a scale of 0', async (target) => {
  const model = quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED, Tensor.float32('xs', [], [0])));
  expect(await verdict(model, target)).toContain('is not positive and finite');
});
