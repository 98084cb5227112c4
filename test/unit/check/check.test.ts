import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkModel, checkTarget } from '../../../src/check/check.js';
import { int } from '../../../src/ir/attribute.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { QUANTIZED } from '../../../src/passes/quantize-linears.js';
import {
  asLoaded,
  filled,
  IN,
  matmul,
  node,
  OUT,
  pair,
  parameters,
  quantizedModel,
  SIGNED,
  weight,
} from '../../helpers/quantized.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const plain = () => quantizedModel([...pair(), weight(), matmul()], parameters());

describe('checkModel', () => {
  it('counts what becomes of each product', async () => {
    const model = quantizedModel(
      [
        ...pair(),
        weight(),
        matmul(),
        weight('wd2'),
        matmul('x', 'wd2', 'y2'),
        matmul('d', 'w', 'y3'),
        matmul('x', 'w', 'y4'),
      ],
      parameters({}, Tensor.float32('w', [IN, OUT], filled(IN * OUT, 1))),
      { outputs: ['y', 'y2', 'y3', 'y4'] },
    );
    const { products, ...counts } = await checkModel(asLoaded(model), 'ort-cpu');
    expect(counts).toMatchObject({ integer: 1, weights: 1, float: 1, madeFor: null, opset: 20, target: 'ort-cpu' });
    expect(products.map(({ node: name, outcome }) => [name, outcome])).toEqual([
      ['y', 'integer'],
      ['y2', 'weights'],
      ['y3', 'float'],
    ]);
  });

  it('knows the roles that wanq wrote, and those that names tell', async () => {
    const written = plain();
    const [product] = written.graph.nodes.filter(({ opType }) => opType === 'MatMul');
    if (product) product.metadata = new Map([[QUANTIZED, 'blocks.3.ffn.down']]);
    written.metadata.set('wanq.target', 'ort-cpu');
    const report = await checkModel(asLoaded(written), 'tensorrt');
    expect([report.products[0]?.role, report.madeFor]).toEqual(['blocks.3.ffn.down', 'ort-cpu']);
    const foreign = plain();
    const name = 'blocks.1.attn1.to_q.weight_quantized';
    const codes = foreign.graph.initializers.get('wq') as Tensor;
    foreign.graph.initializers.delete('wq');
    foreign.graph.addInitializer(codes.renamed(name));
    for (const each of foreign.graph.nodes) each.inputs = each.inputs.map((input) => (input === 'wq' ? name : input));
    expect((await checkModel(asLoaded(foreign), 'ort-cpu')).products[0]?.role).toBe('blocks.1.attn1.q');
  });

  it('lists pairs that belong to no product', async () => {
    const model = quantizedModel(
      [
        ...pair(),
        weight(),
        matmul(),
        ...pair('y', 'result'),
        node('Relu', ['resultd'], 'z'),
        ...pair('z', 'r'),
        node('Neg', ['rd'], 'last'),
      ],
      parameters(),
      { outputs: ['last'] },
    );
    const { others } = await checkModel(asLoaded(model), 'ort-cpu');
    expect(others).toEqual([{ node: 'rq', readers: ['Neg'] }]);
  });

  it('does not take what makes the codes of a MatMulInteger for such a pair', async () => {
    const model = quantizedModel(
      [
        node('QuantizeLinear', ['x', 'xs', 'xz'], 'q'),
        node('Reshape', ['q', 'shape'], 'codes'),
        node('MatMulInteger', ['codes', 'wq'], 'p'),
        node('Cast', ['p'], 'y', [int('to', 1)]),
      ],
      parameters(SIGNED, Tensor.int64('shape', [2], [-1, IN])),
    );
    expect((await checkModel(asLoaded(model), 'ort-cuda')).others).toEqual([]);
  });

  it('does not look past operators of two activations for codes', async () => {
    const model = quantizedModel([...pair(), node('Mul', ['d', 'x'], 'm'), weight(), matmul('m')], parameters());
    const { products, others } = await checkModel(asLoaded(model), 'ort-cpu');
    expect(products.map(({ outcome }) => outcome)).toEqual(['weights']);
    expect(others).toEqual([{ node: 'q', readers: ['Mul'] }]);
  });

  it('refuses a model with nothing quantized', async () => {
    const model = quantizedModel([matmul('x', 'w')], [Tensor.float32('w', [IN, OUT], filled(IN * OUT, 1))]);
    await expectRejection(checkModel(asLoaded(model), 'ort-cpu'), 'MODEL_UNSUPPORTED');
  });

  it.each(['ort-cpu', 'tensorrt', 'directml'] as const)(
    'takes a DequantizeLinear without a scale for none: %s',
    async (target) => {
      const [quantizer] = pair();
      const broken = node('DequantizeLinear', ['q'], 'd');
      const model = quantizedModel([quantizer as ReturnType<typeof node>, broken, weight(), matmul()], parameters());
      await expect(checkModel(asLoaded(model), target)).resolves.toBeDefined();
    },
  );
});

describe('checkTarget', () => {
  it('takes a model file, or a folder that has one as its transformer', async () => {
    const folder = await temporaryFolder();
    const file = path.join(folder, 'transformer', 'model.onnx');
    await mkdir(path.dirname(file));
    await writeFile(file, encodeModel(plain()));
    const reports = await Promise.all([file, folder].map((given) => checkTarget(given, 'ort-cpu')));
    expect(reports.map(({ integer, file: checked }) => [integer, checked])).toEqual([
      [1, file],
      [1, file],
    ]);
  });

  it('says what is missing', async () => {
    const folder = await temporaryFolder();
    await expectRejection(checkTarget(path.join(folder, 'absent'), 'ort-cpu'), 'NOT_FOUND');
    await expectRejection(checkTarget(folder, 'ort-cpu'), 'NOT_FOUND');
    await writeFile(path.join(folder, 'text.onnx'), 'no model');
    await expectRejection(checkTarget(path.join(folder, 'text.onnx'), 'ort-cpu'), 'MODEL_INVALID');
  });
});
