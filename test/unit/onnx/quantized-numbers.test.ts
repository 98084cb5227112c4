import { describe, expect, it } from 'vitest';
import { int } from '../../../src/ir/attribute.js';
import { DataType, type DataTypeName } from '../../../src/ir/dtype.js';
import type { Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { oddWeights, quantizedNumbers } from '../../../src/onnx/quantized-numbers.js';
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
  storedWeight,
  weight,
} from '../../helpers/quantized.js';

const usual = [...pair(), weight(), matmul()];
const scales = (value: number, count = OUT): Tensor => Tensor.float32('ws', [count], filled(count, value));
const cast = (from: string, to: string, type: DataTypeName): Node =>
  node('Cast', [from], to, [int('to', DataType[type])]);

/** `tensor why` of each defect. */
async function defects(nodes: Node[], tensors: readonly Tensor[], own = true): Promise<string[]> {
  const model = quantizedModel(nodes, tensors);
  const { defects: found } = await quantizedNumbers(model, asLoaded(model).read, { own });
  return found.map(({ tensor, why }) => `${tensor} ${why}`);
}

/** MatMulInteger of the usual codes, times scales. */
const integer = (...factors: string[]): Node[] => [
  node('QuantizeLinear', ['x', 'xs', 'xz'], 'q'),
  node('MatMulInteger', ['q', 'wq', 'xz'], 'sums'),
  cast('sums', 'wide', 'float32'),
  ...factors.map((factor, i) =>
    node('Mul', [i === 0 ? 'wide' : `part${i}`, factor], i === factors.length - 1 ? 'y' : `part${i + 1}`),
  ),
];

describe('quantizedNumbers lets pass', () => {
  it.each<[string, Node[], Tensor[]]>([
    ['a pair and a weight', usual, parameters()],
    ['symmetric activations', usual, parameters({ dtype: 'int8', zeroPoint: 0 })],
    [
      'a weight without a zero point',
      [...pair(), node('DequantizeLinear', ['wq', 'ws'], 'wd'), matmul()],
      parameters(),
    ],
    [
      'one scale for a whole weight',
      usual,
      parameters({}, Tensor.float32('ws', [], [0.1]), codes('wz', [], [0], 'int8')),
    ],
    [
      'scales in FP16, subnormal ones among them',
      usual,
      parameters({}, half('ws', [OUT], filled(OUT, 2 ** -20)), half('xs', [], [0.05])),
    ],
    ['channels of the first axis', [...pair(), weight('wd', 0), matmul()], parameters({}, storedWeight([OUT, IN]))],
    ['an axis from behind', [...pair(), weight('wd', -1), matmul()], parameters()],
    ['integer products', integer('ws'), parameters()],
    ['a scale that is computed', integer('x', 'ws'), parameters()],
    ['a product of scales', [node('Mul', ['xs', 'ws'], 'both'), ...integer('both')], parameters()],
    [
      'what is multiplied behind two computed scales',
      integer('x', 'x', 'c'),
      [...parameters(), Tensor.float32('c', [], [-1])],
    ],
    [
      'what is multiplied behind the scales',
      [...integer('ws'), node('Mul', ['y', 'c'], 'z')],
      [...parameters(), Tensor.float32('c', [], [-1])],
    ],
  ])('%s', async (_, nodes, tensors) => {
    expect(await defects(nodes, tensors)).toEqual([]);
  });

  it('signed zero points and wide codes of models that are not its own', async () => {
    const tensors = parameters({ dtype: 'int8', zeroPoint: 3 });
    expect(await defects(usual, tensors, false)).toEqual([]);
    expect(await defects(usual, tensors)).toEqual(['xz is not 0 for int8']);
    const wide = parameters(
      {},
      codes('wq', [IN, OUT], filled(IN * OUT, 1), 'uint16'),
      codes('wz', [OUT], filled(OUT, 0), 'uint16'),
    );
    expect(await defects(usual, wide, false)).toEqual([]);
    expect(await defects(usual, wide)).toEqual(['wq holds codes of uint16']);
  });
});

describe('quantizedNumbers finds', () => {
  const constant = (tensor: Tensor): Node =>
    node('Constant', [], tensor.name, [{ name: 'value', type: 'tensor', value: tensor }]);

  it.each([0, -0, -1, Number.NaN, Number.POSITIVE_INFINITY])('a scale of %d, wherever it stands', async (broken) => {
    const why = 'is not positive and finite';
    const bad = Tensor.float32('xs', [], [broken]);
    expect(await defects(usual, parameters({}, bad))).toEqual([`xs ${why}`]);
    expect(
      await defects(
        usual,
        parameters({}, scales(0.1).renamed('ws'), Tensor.float32('ws', [OUT], filled(OUT, 1).with(7, broken))),
      ),
    ).toEqual([`ws ${why}`]);
    expect(await defects([constant(bad), ...usual], parameters({}, { without: 'xs' }))).toEqual([`xs ${why}`]);
    const moved = [cast('s', 'xs', 'float32'), ...usual];
    expect(await defects(moved, [...parameters({}, { without: 'xs' }), Tensor.float32('s', [], [broken])])).toEqual([
      `xs ${why}`,
    ]);
    expect(await defects(integer('ws'), parameters({}, scales(broken)))).toEqual([`ws ${why}`]);
    expect(await defects(integer('x', 'ws'), parameters({}, scales(broken)))).toEqual([`ws ${why}`]);
    const folded = [node('Mul', ['xs', 'ws'], 'both'), ...integer('both')];
    expect(await defects(folded, parameters({}, scales(broken)))).toContain(`ws ${why}`);
  });

  it('a scale that a Cast to FP16 makes 0', async () => {
    const tensors = [...parameters({}, { without: 'xs' }), Tensor.float32('s', [], [1e-9])];
    expect(await defects([cast('s', 'xs', 'float16'), ...usual], tensors)).toEqual(['xs is not positive and finite']);
  });

  it('scales whose product is infinite', async () => {
    const tensors = parameters({}, Tensor.float32('xs', [], [1e30]), scales(1e30));
    expect(await defects([node('Mul', ['xs', 'ws'], 'both'), ...integer('both')], tensors)).toEqual([
      'both is a product of scales that is not finite',
    ]);
  });

  it('a scale of a lookup', async () => {
    const table = (scale: number): Tensor[] => [
      codes('t', [8, 4], filled(32, 5), 'int8'),
      Tensor.float32('ts', [8, 1], filled(8, 1).with(3, scale)),
      Tensor.int64('ids', [2], [1, 3]),
    ];
    const lookup = [
      node('Gather', ['t', 'ids'], 'rows'),
      cast('rows', 'wide', 'float32'),
      node('Gather', ['ts', 'ids'], 'factors'),
      node('Mul', ['wide', 'factors'], 'y'),
    ];
    expect(await defects(lookup, table(0))).toEqual(['ts is not positive and finite']);
    expect(await defects(lookup, table(1))).toEqual([]);
    const short = [...table(1).filter(({ name }) => name !== 'ts'), Tensor.float32('ts', [7, 1], filled(7, 1))];
    expect(await defects(lookup, short)).toEqual(['ts has 7 scales for 8 rows']);
  });

  it.each<[string, Tensor[], string, Node[]?]>([
    ['a denormal scale', [scales(2 ** -130)], 'ws is below the smallest normal number: some kernels take it for 0'],
    ['scales in FP16 that codes leave', [half('ws', [OUT], filled(OUT, 600))], 'ws makes values past the end of FP16'],
    ['a scale of whole numbers', [Tensor.int64('xs', [], [1])], 'xs is a scale of int64'],
    [
      'too few scales',
      [scales(1, OUT - 1), codes('wz', [OUT - 1], filled(OUT - 1, 0), 'int8')],
      `ws has ${OUT - 1} scales for ${OUT} channels`,
    ],
    [
      'a scale of two axes',
      [Tensor.float32('ws', [1, OUT], filled(OUT, 1)), codes('wz', [1, OUT], filled(OUT, 0), 'int8')],
      'ws is a scale of 2 axes',
    ],
    ['an axis that there is not', [], 'ws is for axis 2 of 2 axes', [...pair(), weight('wd', 2), matmul()]],
    ['an axis before the first', [], 'ws is for axis -3 of 2 axes', [...pair(), weight('wd', -3), matmul()]],
    [
      'a zero point of another type',
      [codes('wz', [OUT], filled(OUT, 0), 'uint8')],
      'wz is a zero point of uint8 for codes of int8',
    ],
    [
      'a zero point of another shape',
      [codes('wz', [OUT - 1], filled(OUT - 1, 0), 'int8')],
      `wz is [${OUT - 1}] and its scale [${OUT}]`,
    ],
    ['a scalar zero point of many scales', [codes('wz', [], [0], 'int8')], `wz is a scalar and its scale [${OUT}]`],
    ['a weight that is not symmetric', [codes('wz', [OUT], filled(OUT, 1), 'int8')], 'wz is not 0 for int8'],
    [
      'codes that are floats',
      [Tensor.fromBytes('wq', 'float32', [IN, OUT], asBytes(new Float32Array(IN * OUT)))],
      'wq holds codes of float32',
    ],
    ['too few scales of sums', [scales(1, OUT - 1)], `ws has ${OUT - 1} scales for ${OUT} channels`, integer('ws')],
    [
      'a zero point of sums of another type',
      [codes('z', [], [0], 'int8')],
      'z is a zero point of int8 for codes of uint8',
      [
        ...integer('ws').map((each) =>
          each.opType === 'MatMulInteger' ? node('MatMulInteger', ['q', 'wq', 'z'], 'sums') : each,
        ),
      ],
    ],
  ])('%s', async (_, tensors, line, nodes = usual) => {
    expect(await defects(nodes, parameters({}, ...tensors))).toContain(line);
  });

  it('the scales of operators that take them as inputs', async () => {
    const tensors = [...parameters({}, scales(0.1)), Tensor.float32('ys', [], [0]), codes('yz', [], [0], 'uint8')];
    const nodes = [
      node('QuantizeLinear', ['x', 'xs', 'xz'], 'q'),
      node('QLinearMatMul', ['q', 'xs', 'xz', 'wq', 'ws', 'wz', 'ys', 'yz'], 'y'),
    ];
    expect(await defects(nodes, tensors)).toEqual(['ys is not positive and finite']);
  });
});

describe('oddWeights', () => {
  const found = async (values: readonly number[], scale: readonly number[], nodes = usual) => {
    const tensors = parameters({}, codes('wq', [IN, OUT], values, 'int8'), Tensor.float32('ws', [OUT], scale));
    const model = quantizedModel(nodes, tensors);
    const { read } = asLoaded(model);
    return oddWeights((await quantizedNumbers(model, read)).weights, read);
  };
  const ones = filled(IN * OUT, 1);
  const zeroed = ones.map((one, i) => (i % OUT === 3 ? 0 : one));

  it('counts channels of zeros and of a single weight, for every form', async () => {
    const least = filled(OUT, 0.1).with(3, 2 ** -126);
    const note = { tensor: 'wq', channels: OUT };
    expect(await found(zeroed, least)).toEqual([{ ...note, zero: 1, single: 0 }]);
    expect(await found(zeroed, least, integer('ws'))).toEqual([{ ...note, zero: 1, single: 0 }]);
    const folded = [node('Mul', ['xs', 'ws'], 'both'), ...integer('both')];
    expect(await found(zeroed, least, folded)).toEqual([{ ...note, zero: 1, single: 0 }]);
    expect(await found(zeroed.with(3, 127), filled(OUT, 0.1).with(3, 1e6))).toEqual([{ ...note, zero: 0, single: 1 }]);
  });

  it('has nothing to say of usual weights, whose codes it does not read', async () => {
    expect(await found(ones, filled(OUT, 2 ** -126))).toEqual([]);
    expect(await found(zeroed, filled(OUT, 0.1))).toEqual([]);
  });
});
