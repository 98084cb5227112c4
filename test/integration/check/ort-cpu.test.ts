import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkModel } from '../../../src/check/check.js';
import { int } from '../../../src/ir/attribute.js';
import type { Model } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { randn } from '../../../src/numerics/rng.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { fromFloat32, type HostTensor } from '../../../src/runtime/tensor.js';
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
import { sharedHost, temporaryFolder } from '../support/environment.js';

const host = sharedHost();
const folder = temporaryFolder();

const BIAS = Tensor.float32('bias', [OUT], filled(OUT, 1));
const TWO = Tensor.float32('two', [], [2]);
const PER_TENSOR = [Tensor.float32('ws', [], [0.01]), codes('wz', [], [0], 'int8')];
const MATRIX = { dims: ['tokens', IN] };
const FIXED = { dims: [1, 16, IN] };
const KERNEL = [
  codes(
    'kq',
    [8, 4, 3],
    Array.from({ length: 96 }, (_, i) => (i * 7) % 100),
    'int8',
  ),
  Tensor.float32('ks', [8], filled(8, 0.01)),
  codes('kz', [8], filled(8, 0), 'int8'),
];
const kernel = () => node('DequantizeLinear', ['kq', 'ks', 'kz'], 'kd', [int('axis', 0)]);
const requantized = (value: string) => [
  node('QuantizeLinear', [value, 'xs', 'xz'], 'rq'),
  node('DequantizeLinear', ['rq', 'xs', 'xz'], 'y'),
];
const other = () => [weight('wd2'), matmul('d', 'wd2', 'y2')];
const BOTH = { outputs: ['y', 'y2'] };

/** Graphs with what onnxruntime makes of their products, and where it is no integer kernel, what the checker says of it. */
const GRAPHS: Record<string, [model: Model, kernel: string | null, reason?: RegExp]> = {
  'a UINT8 activation': [quantizedModel([...pair(), weight(), matmul()], parameters()), 'MatMulIntegerToFloat'],
  'an INT8 activation': [quantizedModel([...pair(), weight(), matmul()], parameters(SIGNED)), 'MatMulIntegerToFloat'],
  'an INT8 activation with a zero point': [
    quantizedModel([...pair(), weight(), matmul()], parameters({ dtype: 'int8', zeroPoint: 5 })),
    'MatMulIntegerToFloat',
  ],
  'a UINT8 activation of two products': [
    quantizedModel([...pair(), weight(), matmul(), ...other()], parameters(), BOTH),
    'MatMulIntegerToFloat',
  ],
  'an INT8 activation of two products': [
    quantizedModel([...pair(), weight(), matmul(), ...other()], parameters(SIGNED), BOTH),
    null,
    /read by others/,
  ],
  'two INT8 pairs that are alike': [
    quantizedModel(
      [...pair(), ...pair('x', 'p'), weight(), matmul(), weight('wd2'), matmul('pd', 'wd2', 'y2')],
      parameters(SIGNED),
      BOTH,
    ),
    null,
    /read by others/,
  ],
  'an INT8 activation that is read as floats too': [
    quantizedModel([...pair(), weight(), matmul(), node('Relu', ['d'], 'y2')], parameters(SIGNED), BOTH),
    null,
    /read by others/,
  ],
  'a UINT8 activation that is read as floats too': [
    quantizedModel([...pair(), weight(), matmul(), node('Relu', ['d'], 'y2')], parameters(), BOTH),
    'MatMulIntegerToFloat',
  ],
  'an INT8 activation without a zero point': [
    quantizedModel(
      [
        node('QuantizeLinear', ['x', 'xs'], 'q', [int('output_dtype', 3)]),
        node('DequantizeLinear', ['q', 'xs'], 'd'),
        weight(),
        matmul(),
      ],
      parameters(SIGNED, { without: 'xz' }),
      { opset: 21 },
    ),
    null,
    /no explicit zero point/,
  ],
  'an INT8 pair of two zero points': [
    quantizedModel(
      [
        node('QuantizeLinear', ['x', 'xs', 'xz'], 'q'),
        node('DequantizeLinear', ['q', 'xs', 'xz2'], 'd'),
        weight(),
        matmul(),
      ],
      parameters(SIGNED, codes('xz2', [], [3], 'int8')),
    ),
    null,
    /different zero points/,
  ],
  'a UINT8 activation without a zero point': [
    quantizedModel(
      [node('QuantizeLinear', ['x', 'xs'], 'q'), node('DequantizeLinear', ['q', 'xs'], 'd'), weight(), matmul()],
      parameters({}, { without: 'xz' }),
    ),
    'MatMulIntegerToFloat',
  ],
  'codes of 16 bits': [
    quantizedModel([...pair(), weight(), matmul()], parameters({ dtype: 'uint16', zeroPoint: 7 }), { opset: 21 }),
    null,
    /uint16 have no kernel/,
  ],
  'a transposed weight': [
    quantizedModel(
      [...pair(), weight('t', 0), transposed('t', 'wd'), matmul()],
      parameters({}, storedWeight([OUT, IN])),
    ),
    'MatMulIntegerToFloat',
  ],
  'a weight behind Casts and Identities that do nothing': [
    quantizedModel(
      [...pair(), weight('a'), node('Cast', ['a'], 'b', [int('to', 1)]), node('Identity', ['b'], 'wd'), matmul()],
      parameters(),
    ),
    'MatMulIntegerToFloat',
  ],
  'a weight that is multiplied': [
    quantizedModel([...pair(), weight('a'), node('Mul', ['a', 'two'], 'wd'), matmul()], parameters({}, TWO)),
    null,
    /Mul between the DequantizeLinear of its weight/,
  ],
  'a weight that is reshaped': [
    quantizedModel(
      [...pair(), weight('a', 2), node('Reshape', ['a', 'shape'], 'wd'), matmul()],
      parameters({}, storedWeight([8, 8, OUT]), Tensor.int64('shape', [2], [IN, OUT])),
    ),
    null,
    /Reshape between the DequantizeLinear of its weight/,
  ],
  'a weight that is squeezed': [
    quantizedModel(
      [...pair(), weight('a', 2), node('Squeeze', ['a', 'zero'], 'wd'), matmul()],
      parameters({}, storedWeight([1, IN, OUT]), Tensor.int64('zero', [1], [0])),
    ),
    null,
    /Squeeze between the DequantizeLinear of its weight/,
  ],
  'a weight with scales of FP16, cast': [
    quantizedModel(
      [...pair(), weight('a'), node('Cast', ['a'], 'wd', [int('to', 1)]), matmul()],
      parameters({}, half('ws', [OUT], filled(OUT, 0.01))),
    ),
    null,
    /Cast between the DequantizeLinear of its weight/,
  ],
  'a weight without zero points': [
    quantizedModel(
      [...pair(), node('DequantizeLinear', ['wq', 'ws'], 'wd', [int('axis', 1)]), matmul()],
      parameters({}, { without: 'wz' }),
    ),
    'MatMulIntegerToFloat',
  ],
  'a weight with zero points': [
    quantizedModel([...pair(), weight(), matmul()], parameters({}, codes('wz', [OUT], filled(OUT, 3), 'int8'))),
    'MatMulIntegerToFloat',
  ],
  'a UINT8 weight': [
    quantizedModel(
      [...pair(), weight(), matmul()],
      parameters({}, storedWeight([IN, OUT], 'uint8'), codes('wz', [OUT], filled(OUT, 128), 'uint8')),
    ),
    'MatMulIntegerToFloat',
  ],
  'a weight with one scale': [
    quantizedModel([...pair(), weight('wd', null), matmul()], parameters({}, ...PER_TENSOR)),
    'MatMulIntegerToFloat',
  ],
  'a weight that is quantized in the graph': [
    quantizedModel(
      [
        ...pair(),
        node('QuantizeLinear', ['w', 'ws', 'wz'], 'wq', [int('axis', 1)]),
        node('DequantizeLinear', ['wq', 'ws', 'wz'], 'wd', [int('axis', 1)]),
        matmul(),
      ],
      parameters({}, { without: 'wq' }, Tensor.float32('w', [IN, OUT], randn(3, IN * OUT))),
    ),
    'MatMulIntegerToFloat',
  ],
  'an activation that is moved about': [
    quantizedModel(
      [
        ...pair(),
        node('Unsqueeze', ['d', 'zero'], 'a'),
        node('Squeeze', ['a', 'zero'], 'b'),
        node('Reshape', ['b', 'shape'], 'c'),
        node('Slice', ['c', 'zero', 'four', 'zero'], 'e'),
        weight(),
        matmul('e'),
      ],
      parameters(
        {},
        Tensor.int64('zero', [1], [0]),
        Tensor.int64('four', [1], [4]),
        Tensor.int64('shape', [2], [-1, IN]),
      ),
    ),
    'MatMulIntegerToFloat',
  ],
  'an activation that is transposed': [
    quantizedModel(
      [
        ...pair(),
        node('Transpose', ['d'], 'a', [{ name: 'perm', type: 'ints', value: [1, 0, 2] }]),
        weight(),
        matmul('a'),
      ],
      parameters(),
    ),
    'MatMulIntegerToFloat',
  ],
  'an activation that is added to': [
    quantizedModel([...pair(), node('Add', ['d', 'two'], 'a'), weight(), matmul('a')], parameters({}, TWO)),
    null,
    /Add between the DequantizeLinear of its activation/,
  ],
  'an activation that is multiplied': [
    quantizedModel([...pair(), node('Mul', ['d', 'two'], 'a'), weight(), matmul('a')], parameters({}, TWO)),
    null,
    /Mul between the DequantizeLinear of its activation/,
  ],
  'an activation that is flattened': [
    quantizedModel([...pair(), node('Flatten', ['d'], 'a', [int('axis', 2)]), weight(), matmul('a')], parameters()),
    null,
    /Flatten between the DequantizeLinear of its activation/,
  ],
  'an activation with a scale that is fed': [
    quantizedModel([...pair(), weight(), matmul()], parameters({}, { without: 'xs' }), {
      inputs: [{ name: 'xs', dtype: 'float32', dims: [] }],
    }),
    'MatMulIntegerToFloat',
  ],
  'a result that is quantized': [
    quantizedModel([...pair(), weight(), matmul('d', 'wd', 'm'), ...requantized('m')], parameters()),
    'QLinearMatMul',
  ],
  'a result that is quantized and read as floats': [
    quantizedModel(
      [...pair(), weight(), matmul('d', 'wd', 'm'), ...requantized('m'), node('Relu', ['m'], 'y2')],
      parameters(),
      BOTH,
    ),
    null,
    /read as floats too/,
  ],
  'a bias behind an activation of open size': [
    quantizedModel(
      [...pair(), weight(), matmul('d', 'wd', 'm'), node('Add', ['m', 'bias'], 'y')],
      parameters({}, BIAS),
    ),
    'MatMulIntegerToFloat',
  ],
  'a bias behind an activation of known size': [
    quantizedModel(
      [...pair(), weight(), matmul('d', 'wd', 'm'), node('Add', ['m', 'bias'], 'y')],
      parameters({}, BIAS),
      FIXED,
    ),
    null,
    /made a Gemm/,
  ],
  'a bias behind a matrix': [
    quantizedModel(
      [...pair(), weight(), matmul('d', 'wd', 'm'), node('Add', ['m', 'bias'], 'y')],
      parameters({}, BIAS),
      MATRIX,
    ),
    null,
    /made a Gemm/,
  ],
  'a bias that a Sum adds': [
    quantizedModel(
      [...pair(), weight(), matmul('d', 'wd', 'm'), node('Sum', ['m', 'bias'], 'y')],
      parameters({}, BIAS),
      FIXED,
    ),
    'MatMulIntegerToFloat',
  ],
  'a Gemm': [quantizedModel([...pair(), weight(), node('Gemm', ['d', 'wd'], 'y')], parameters(), MATRIX), 'QGemm'],
  'a Gemm of INT8 that is read as floats too': [
    quantizedModel(
      [...pair(), weight(), node('Gemm', ['d', 'wd'], 'y'), node('Relu', ['d'], 'y2')],
      parameters(SIGNED),
      {
        ...MATRIX,
        ...BOTH,
      },
    ),
    'QGemm',
  ],
  'a Gemm that transposes its weight': [
    quantizedModel(
      [...pair(), weight('wd', 0), node('Gemm', ['d', 'wd'], 'y', [int('transB', 1)])],
      parameters({}, storedWeight([OUT, IN])),
      MATRIX,
    ),
    'QGemm',
  ],
  'a Gemm with a bias': [
    quantizedModel([...pair(), weight(), node('Gemm', ['d', 'wd', 'bias'], 'y')], parameters({}, BIAS), MATRIX),
    null,
    /bias of floats/,
  ],
  'a FusedMatMul': [
    quantizedModel([...pair(), weight(), node('FusedMatMul', ['d', 'wd'], 'y', [], 'com.microsoft')], parameters()),
    null,
    /FusedMatMul is not fused/,
  ],
  'a Conv': [
    quantizedModel([...pair(), kernel(), node('Conv', ['d', 'kd'], 'y')], parameters({}, ...KERNEL), {
      dims: [1, 4, 16],
    }),
    null,
    /only where its result is quantized/,
  ],
  'a Conv whose result is quantized': [
    quantizedModel(
      [...pair(), kernel(), node('Conv', ['d', 'kd'], 'm'), ...requantized('m')],
      parameters({}, ...KERNEL),
      {
        dims: [1, 4, 16],
      },
    ),
    'QLinearConv',
  ],
  'a product of FP16': [
    quantizedModel(
      [...pair(), weight(), matmul()],
      parameters({}, half('xs', [], [0.05]), half('ws', [OUT], filled(OUT, 0.01))),
      { dtype: 'float16' },
    ),
    null,
    /float16 computes in FP32/,
  ],
  'an activation alone': [
    quantizedModel([...pair(), matmul('d', 'w')], parameters({}, Tensor.float32('w', [IN, OUT], randn(3, IN * OUT)))),
    null,
    /weight is in floats/,
  ],
  'opset 25': [quantizedModel([...pair(), weight(), matmul()], parameters(), { opset: 25 }), 'MatMulIntegerToFloat'],
};

/** Graphs that are fused, and then not run. */
const REFUSED: Record<string, [model: Model, reason: RegExp]> = {
  'a weight with scales of its inputs': [
    quantizedModel(
      [...pair(), weight('wd', 0), matmul()],
      parameters({}, Tensor.float32('ws', [IN], filled(IN, 0.01)), codes('wz', [IN], filled(IN, 0), 'int8')),
    ),
    /not those of the product's outputs/,
  ],
  'a weight of three axes': [
    quantizedModel([...pair(), weight('wd', 2), matmul()], parameters({}, storedWeight([1, IN, OUT]))),
    /3 axes/,
  ],
  'an activation with a scale for each channel': [
    quantizedModel(
      [...pair('x', '', [int('axis', 2)]), weight(), matmul()],
      parameters({}, Tensor.float32('xs', [IN], filled(IN, 0.05)), codes('xz', [IN], filled(IN, 7), 'uint8')),
    ),
    /scale for each channel/,
  ],
};

const weightOnly = (...initializers: Parameters<typeof parameters>[1][]) =>
  quantizedModel([weight(), matmul('x')], parameters({}, ...initializers));

/** Graphs of which the weight alone is quantized, with whether a kernel reads its codes. */
const WEIGHTS: Record<string, [model: Model, nbits: boolean]> = {
  'a scale for each output': [weightOnly(), true],
  'one scale': [weightOnly(...PER_TENSOR), true],
  'one scale in a vector': [weightOnly(Tensor.float32('ws', [1], [0.01]), codes('wz', [1], [0], 'int8')), false],
  'a transposed weight': [
    quantizedModel([weight('t', 0), transposed('t', 'wd'), matmul('x')], parameters({}, storedWeight([OUT, IN]))),
    true,
  ],
  'a Gemm with a bias': [
    quantizedModel([weight(), node('Gemm', ['x', 'wd', 'bias'], 'y')], parameters({}, BIAS), MATRIX),
    true,
  ],
  'a Gemm that transposes it': [
    quantizedModel(
      [weight('wd', 0), node('Gemm', ['x', 'wd'], 'y', [int('transB', 1)])],
      parameters({}, storedWeight([OUT, IN])),
      MATRIX,
    ),
    false,
  ],
  'two products of one weight': [
    quantizedModel([weight(), matmul('x'), node('Relu', ['x'], 'r'), matmul('r', 'wd', 'y2')], parameters(), BOTH),
    false,
  ],
  'a Cast of its FP16': [
    quantizedModel(
      [weight('a'), node('Cast', ['a'], 'wd', [int('to', 1)]), matmul('x')],
      parameters({}, half('ws', [OUT], filled(OUT, 0.01))),
    ),
    false,
  ],
};

const KERNELS = ['MatMulIntegerToFloat', 'QLinearMatMul', 'QGemm', 'QLinearConv'];

/** Operators of the graph as onnxruntime's CPU provider optimized it, and how its run ended. */
async function reality(model: Model, name: string): Promise<{ operators: string[]; ran: boolean }> {
  const optimizedModelPath = path.join(folder, `${name.replaceAll(' ', '-')}.onnx`);
  const source = { bytes: encodeModel(model), folder };
  const session = await host.createSession(source, { providers: ['cpu'], optimizedModelPath });
  const [x] = model.graph.inputs;
  const dims = (x?.dims ?? []).map((dim) => (typeof dim === 'number' ? dim : 16));
  const values = randn(
    1,
    dims.reduce((a, b) => a * b, 1),
  );
  const feeds: Record<string, HostTensor> = { x: fromFloat32(values, dims, x?.dtype ?? null) };
  if (model.graph.inputs.length > 1) feeds.xs = fromFloat32(Float32Array.of(0.05), [], 'float32');
  const ran = await session.run(feeds).then(
    () => true,
    () => false,
  );
  await session.release();
  return { operators: (await loadGraph(optimizedModelPath)).graph.nodes.map(({ opType }) => opType), ran };
}

// Other processors take INT8 activations as they are.
describe.runIf(process.arch === 'x64')('the checker for ort-cpu and onnxruntime agree on', () => {
  it.each(Object.entries(GRAPHS))('%s', async (name, [model, kernel, reason]) => {
    const { operators, ran } = await reality(model, name);
    const { products, integer, float } = await checkModel(asLoaded(model), 'ort-cpu');
    expect(ran).toBe(true);
    expect(operators.filter((operator) => KERNELS.includes(operator))).toEqual(
      kernel === null ? [] : new Array(products.length).fill(kernel),
    );
    expect(kernel === null ? float : integer).toBe(products.length);
    for (const product of products) {
      expect(product.kernel).toBe(kernel);
      expect(product.reasons.join('; ')).toMatch(reason ?? /^$/);
    }
  });

  it.each(Object.entries(REFUSED))('%s, which is fused and does not run', async (name, [model, reason]) => {
    const { operators, ran } = await reality(model, name);
    expect([operators.includes('MatMulIntegerToFloat'), ran]).toEqual([true, false]);
    const { products } = await checkModel(asLoaded(model), 'ort-cpu');
    expect(products.map(({ outcome }) => outcome)).toEqual(['float']);
    expect(products[0]?.reasons.join('; ')).toMatch(reason);
  });

  it.each(Object.entries(WEIGHTS))('%s, quantized alone', async (name, [model, nbits]) => {
    const { operators, ran } = await reality(model, `weights ${name}`);
    expect([operators.includes('MatMulNBits'), ran]).toEqual([nbits, true]);
    const { products, weights, float } = await checkModel(asLoaded(model), 'ort-cpu');
    expect([weights, float]).toEqual([products.length, 0]);
    for (const { kernel } of products) expect(kernel).toBe(nbits ? 'MatMulNBits' : 'DequantizeLinear');
  });
});
