import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Model } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { checkSaved } from '../../../src/onnx/check.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { saveModel } from '../../../src/onnx/save.js';
import { runPasses } from '../../../src/passes/pass.js';
import { quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { memory } from '../../helpers/source.js';
import { expectRejection } from '../helpers/errors.js';
import { model, node } from '../helpers/graphs.js';
import { temporaryFolder } from '../helpers/temporary.js';

/** A quantized linear whose codes and scales are large enough for the data file. */
function quantizedModel(): Model {
  const weight = Float32Array.from({ length: 512 * 40 }, (_, i) => (i % 97) - 48);
  const made = model({
    nodes: [node('MatMul', ['x', 'w'], 'p'), node('Add', ['p', 'b'], 'y')],
    initializers: [Tensor.float32('w', [40, 512], weight), Tensor.float32('b', [512], weight.subarray(0, 512))],
    inputs: ['x'],
    outputs: ['y'],
  });
  const activation = { dtype: 'uint8', scale: 0.5, zeroPoint: 3 } as const;
  const linears = findLinears(made.graph).map((linear) => ({ linear, activation }));
  runPasses(made, [quantizeLinears(linears), removeUnused]);
  return made;
}

interface Written {
  readonly file: string;
  readonly data: string;
}

async function saved(made: Model): Promise<Written> {
  const folder = await temporaryFolder();
  await saveModel(made, memory, folder);
  return { file: path.join(folder, 'model.onnx'), data: path.join(folder, 'model.onnx_data') };
}

/** Writes a model as it is, beside data files of these sizes. */
async function written(made: Model, sizes: Record<string, number> = {}): Promise<string> {
  const folder = await temporaryFolder();
  for (const [name, size] of Object.entries(sizes)) await writeFile(path.join(folder, name), new Uint8Array(size));
  const file = path.join(folder, 'model.onnx');
  await writeFile(file, encodeModel(made));
  return file;
}

type Place = readonly [name: string, offset: number, length: number, location?: string];

/** A model of uint8 tensors in data files. */
function placed(...places: Place[]): Model {
  const tensors = places.map(
    ([name, offset, length, location = 'data']) =>
      new Tensor(name, 'uint8', [length], { kind: 'external', location, offset, length }),
  );
  return model({
    nodes: [
      node(
        'Concat',
        tensors.map(({ name }) => name),
        'y',
      ),
    ],
    initializers: tensors,
    outputs: ['y'],
  });
}

/** A model that quantizes and dequantizes with a scale. */
function scaledBy(scale: Tensor, opType = 'QuantizeLinear'): Model {
  return model({
    nodes: [node(opType, ['x', scale.name], 'y')],
    initializers: [scale],
    inputs: ['x'],
    outputs: ['y'],
  });
}

describe('checkSaved lets pass', () => {
  it('a quantized model, with its weights in a data file', async () => {
    const made = quantizedModel();
    const { file } = await saved(made);
    await expect(checkSaved(file)).resolves.toEqual([]);
  });

  it('a model without weights', async () => {
    await checkSaved(await written(model({ nodes: [node('Neg', ['x'], 'y')], inputs: ['x'], outputs: ['y'] })));
  });

  it('tensors that touch, in any order, and leave holes and a rest', async () => {
    await checkSaved(await written(placed(['c', 50, 10], ['a', 0, 16], ['b', 16, 16]), { data: 100 }));
  });

  it('tensors at the same offset of two files, each of its own size', async () => {
    const made = placed(['a', 0, 10, 'one'], ['b', 0, 90, 'two'], ['c', 10, 10, 'one'], ['d', 90, 10, 'two']);
    await checkSaved(await written(made, { one: 20, two: 100 }));
  });

  it.each([
    ['the smallest normal scale', [2 ** -126]],
    ['the largest scale', [3.4028234663852886e38]],
    ['a scale for each channel', [1, 2, 0.5]],
  ])('%s', async (_, scales) => {
    await checkSaved(await written(scaledBy(Tensor.float32('s', [scales.length], scales))));
  });

  it('a scale that is computed, and one that is no float32', async () => {
    const computed = model({
      nodes: [node('Abs', ['x'], 's'), node('QuantizeLinear', ['x', 's'], 'y')],
      inputs: ['x'],
      outputs: ['y'],
    });
    await checkSaved(await written(computed));
    await checkSaved(await written(scaledBy(Tensor.fromBytes('s', 'float16', [1], Uint8Array.of(0, 0x3c)))));
  });

  it('a zero that is no scale', async () => {
    const made = model({
      nodes: [node('QuantizeLinear', ['zero', 's'], 'q'), node('Mul', ['x', 'zero'], 'y')],
      initializers: [Tensor.float32('zero', [1], [0]), Tensor.float32('s', [1], [1])],
      inputs: ['x'],
      outputs: ['y'],
    });
    await checkSaved(await written(made));
  });
});

describe('constants of a model that was made of another', () => {
  const biased = (name: string, value: number, count = 4): Model =>
    model({
      nodes: [node('Add', ['x', name], 'y')],
      initializers: [Tensor.float32(name, [count], new Float32Array(count).fill(1).with(2, value))],
      inputs: ['x'],
      outputs: ['y'],
    });

  it.each([Number.NaN, Number.NEGATIVE_INFINITY])(
    'may hold %d where the source has them, and else not',
    async (broken) => {
      const file = await written(biased('b', broken));
      await checkSaved(file, biased('b', broken));
      await checkSaved(file);
      for (const source of [biased('other', broken), biased('b', broken, 5)]) {
        await expect(checkSaved(file, source)).rejects.toMatchObject({
          code: 'MODEL_INVALID',
          message: expect.stringMatching(/"b" holds NaN or infinity$/),
        });
      }
      await checkSaved(await written(biased('b', 0)), biased('other', 0));
    },
  );

  it('are looked at in the data file too', async () => {
    const { file } = await saved(biased('b', Number.NaN, 3_000_000));
    await expectRejection(checkSaved(file, biased('other', 0)), 'MODEL_INVALID');
  });
});

describe('checkSaved refuses', () => {
  it.each([
    ['0', 0],
    ['-0', -0],
    ['a negative number', -1],
    ['NaN', Number.NaN],
    ['infinity', Number.POSITIVE_INFINITY],
    ['minus infinity', Number.NEGATIVE_INFINITY],
  ])('a scale of %s, alone or among others, and names it', async (_, broken) => {
    for (const opType of ['QuantizeLinear', 'DequantizeLinear']) {
      for (const scales of [[broken], [1, broken, 2]]) {
        const file = await written(scaledBy(Tensor.float32('the_scale', [scales.length], scales), opType));
        await expect(checkSaved(file)).rejects.toMatchObject({
          code: 'MODEL_INVALID',
          message: expect.stringContaining('"the_scale"'),
        });
      }
    }
  });

  it('a scale of 0 in the data file', async () => {
    const scales = new Float32Array(300).fill(1);
    scales[299] = 0;
    const { file } = await saved(scaledBy(Tensor.float32('s', [300], scales)));
    await expectRejection(checkSaved(file), 'MODEL_INVALID');
  });

  it('a second scale that is broken', async () => {
    const made = model({
      nodes: [node('QuantizeLinear', ['x', 'good'], 'q'), node('DequantizeLinear', ['q', 'bad'], 'y')],
      initializers: [Tensor.float32('good', [], [1]), Tensor.float32('bad', [], [0])],
      inputs: ['x'],
      outputs: ['y'],
    });
    await expectRejection(checkSaved(await written(made)), 'MODEL_INVALID');
  });

  it.each<[string, Place[], string]>([
    [
      'that share a byte',
      [
        ['a', 0, 17],
        ['b', 16, 16],
      ],
      'a',
    ],
    [
      'that are given in the other order',
      [
        ['b', 16, 16],
        ['a', 0, 17],
      ],
      'a',
    ],
    [
      'at one place',
      [
        ['a', 8, 16],
        ['b', 8, 16],
      ],
      'a',
    ],
    [
      'one inside the other',
      [
        ['a', 0, 64],
        ['b', 8, 8],
        ['c', 64, 4],
      ],
      'a',
    ],
    [
      'among others in another file',
      [
        ['z', 0, 50, 'other'],
        ['a', 0, 17],
        ['b', 16, 16],
      ],
      'a',
    ],
  ])('tensors that overlap: %s', async (_, places, named) => {
    const file = await written(placed(...places), { data: 100, other: 100 });
    await expect(checkSaved(file)).rejects.toMatchObject({
      code: 'EXTERNAL_DATA_INVALID',
      message: expect.stringContaining(`"${named}"`),
    });
  });

  it.each<[string, Place[], Record<string, number>]>([
    [
      'by a byte',
      [
        ['a', 0, 50],
        ['b', 50, 51],
      ],
      { data: 100 },
    ],
    [
      'as a whole',
      [
        ['a', 0, 50],
        ['b', 4096, 8],
      ],
      { data: 100 },
    ],
    [
      'in the first of two files',
      [
        ['a', 0, 60, 'one'],
        ['b', 0, 60, 'two'],
      ],
      { one: 59, two: 100 },
    ],
    [
      'in the second of two files',
      [
        ['a', 0, 60, 'one'],
        ['b', 0, 60, 'two'],
      ],
      { one: 60, two: 59 },
    ],
    ['in an empty file', [['a', 0, 1]], { data: 0 }],
  ])('a tensor that ends behind its file: %s', async (_, places, sizes) => {
    await expectRejection(checkSaved(await written(placed(...places), sizes)), 'EXTERNAL_DATA_INVALID');
  });

  it('a data file that was cut off after it was written', async () => {
    const { file, data } = await saved(quantizedModel());
    await truncate(data, 5000);
    await expectRejection(checkSaved(file), 'EXTERNAL_DATA_INVALID');
  });

  it('a missing data file, a missing model and one that is no model', async () => {
    await expectRejection(checkSaved(await written(placed(['a', 0, 1]))), 'EXTERNAL_DATA_INVALID');
    const folder = await temporaryFolder();
    await expectRejection(checkSaved(path.join(folder, 'absent.onnx')), 'NOT_FOUND');
    await writeFile(path.join(folder, 'model.onnx'), 'not a model');
    await expectRejection(checkSaved(path.join(folder, 'model.onnx')), 'MODEL_INVALID');
  });
});
