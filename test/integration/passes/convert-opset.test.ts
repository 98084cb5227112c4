import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Attribute, int, ints } from '../../../src/ir/attribute.js';
import { Graph, type Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { convertOpset } from '../../../src/passes/convert-opset.js';
import type { SessionOptions } from '../../../src/runtime/protocol.js';
import { float32Tensor, type HostTensor, toFloat32 } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { feedsOf, readCases, readVariants, unpackVariant } from '../../helpers/variants.js';
import { floats, relativeDeviation } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, inMemory, modelOf, node, value } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

const text = (name: string, content: string): Attribute => ({ name, type: 'string', value: Buffer.from(content) });

interface Case {
  readonly from: number;
  readonly to: number;
  /** From `x` to `y`. */
  readonly nodes: () => Node[];
  readonly dims: readonly number[];
  readonly initializers?: readonly Tensor[];
}

const split = (attributes: Attribute[] = []): Node[] => [
  new Node({ opType: 'Split', name: 'split', inputs: ['x'], outputs: ['a', 'b'], attributes }),
  node('Concat', ['b', 'a'], 'y', [int('axis', 0)]),
];

const branch = (output: string, nodes: Node[]) =>
  new Graph({ name: output, nodes, initializers: [], inputs: [], outputs: [value(output, 'float32', [])] });

const grid = Tensor.float32(
  'grid',
  [1, 4, 4, 2],
  randn(9, 32).map((v) => v / 2),
);
const rois = Tensor.float32('rois', [1, 4], [0.6, 0.7, 3.2, 3.9]);

const CASES: Readonly<Record<string, Case>> = {
  ...Object.fromEntries(
    ['Max', 'Min', 'Mean', 'Prod', 'L1', 'L2', 'LogSumExp', 'SumSquare', 'Sum'].flatMap((kind) =>
      ([[1], [-1, 0], []] as const).map((axes): [string, Case] => [
        `Reduce${kind} over [${axes}]`,
        {
          from: kind === 'Sum' ? 11 : 17,
          to: 19,
          dims: [3, 4, 5],
          nodes: () => [node(`Reduce${kind}`, ['x'], 'y', axes.length > 0 ? [ints('axes', [...axes])] : [])],
        },
      ]),
    ),
  ),
  ReduceLogSum: {
    from: 17,
    to: 21,
    dims: [3, 4],
    nodes: () => [node('Exp', ['x'], 'e'), node('ReduceLogSum', ['e'], 'y', [ints('axes', [1]), int('keepdims', 0)])],
  },
  'Squeeze and Unsqueeze': {
    from: 11,
    to: 21,
    dims: [3, 1, 4],
    nodes: () => [
      node('Squeeze', ['x'], 'h', [ints('axes', [1])]),
      node('Unsqueeze', ['h'], 'y', [ints('axes', [0, 3])]),
    ],
  },
  'equal Split of 13': { from: 13, to: 18, dims: [4, 3], nodes: () => split() },
  'equal Split of 11': { from: 11, to: 21, dims: [4, 3], nodes: () => split([int('axis', 0)]) },
  'unequal Split': { from: 11, to: 18, dims: [4, 3], nodes: () => split([ints('split', [1, 3])]) },
  ...Object.fromEntries(
    ['Softmax', 'LogSoftmax', 'Hardmax'].flatMap((opType) =>
      [undefined, 0, 2, -1].map((axis): [string, Case] => [
        `${opType} along ${axis ?? 'its default axis'}`,
        {
          from: 12,
          to: 21,
          dims: [2, 3, 4],
          nodes: () => [node(opType, ['x'], 'y', axis === undefined ? [] : [int('axis', axis)])],
        },
      ]),
    ),
  ),
  Dropout: {
    from: 11,
    to: 22,
    dims: [4],
    nodes: () => [node('Dropout', ['x'], 'y', [{ name: 'ratio', type: 'float', value: 0.7 }])],
  },
  BatchNormalization: {
    from: 13,
    to: 15,
    dims: [2, 3, 4],
    nodes: () => [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], 'y')],
    initializers: [...'sbmv'].map((name, i) => Tensor.float32(name, [3], [i + 1, 0.5, 2])),
  },
  'Resize to sizes': {
    from: 11,
    to: 19,
    dims: [1, 1, 3, 4],
    nodes: () => [node('Resize', ['x', 'none', 'none', 'sizes'], 'y', [text('mode', 'linear')])],
    initializers: [Tensor.float32('none', [0], []), Tensor.int64('sizes', [4], [1, 1, 5, 9])],
  },
  'Resize by scales': {
    from: 11,
    to: 19,
    dims: [1, 1, 3, 4],
    nodes: () => [node('Resize', ['x', 'none', 'scales'], 'y', [text('mode', 'cubic')])],
    initializers: [Tensor.float32('none', [0], []), Tensor.float32('scales', [4], [1, 1, 2, 1.5])],
  },
  RoiAlign: {
    from: 15,
    to: 16,
    dims: [1, 2, 6, 6],
    nodes: () => [node('RoiAlign', ['x', 'rois', 'batch'], 'y', [int('output_height', 2), int('output_width', 3)])],
    initializers: [rois, Tensor.int64('batch', [1], [0])],
  },
  ...Object.fromEntries(
    ['bilinear', 'bicubic', 'nearest', undefined].map((mode): [string, Case] => [
      `GridSample, ${mode ?? 'default'}`,
      {
        from: 16,
        to: 20,
        dims: [1, 2, 5, 5],
        nodes: () => [node('GridSample', ['x', 'grid'], 'y', mode ? [text('mode', mode)] : [])],
        initializers: [grid],
      },
    ]),
  ),
  ...Object.fromEntries(
    [undefined, 2].map((axis): [string, Case] => [
      `DFT along ${axis ?? 'its default axis'}`,
      {
        from: 17,
        to: 20,
        dims: [2, 4, 8, 1],
        nodes: () => [node('DFT', ['x'], 'y', axis === undefined ? [] : [int('axis', axis)])],
      },
    ]),
  ),
  'Cast, Reshape, Pad and Clip': {
    from: 11,
    to: 21,
    dims: [2, 6],
    nodes: () => [
      node('Clip', ['x', 'low'], 'c'),
      node('Pad', ['c', 'pads', 'low'], 'p'),
      node('Reshape', ['p', 'shape'], 'r'),
      node('Cast', ['r'], 'i', [int('to', 6)]),
      node('Cast', ['i'], 'y', [int('to', 1)]),
    ],
    initializers: [
      Tensor.float32('low', [], [-1]),
      Tensor.int64('pads', [4], [0, 1, 0, 1]),
      Tensor.int64('shape', [3], [0, 4, -1]),
    ],
  },
  'LayerNormalization before ONNX had it': {
    from: 13,
    to: 21,
    dims: [3, 4],
    nodes: () => [node('LayerNormalization', ['x', 'gain'], 'y')],
    initializers: [Tensor.float32('gain', [4], [1, 2, 3, 4])],
  },
  'SimplifiedLayerNormalization, which ONNX does not have': {
    from: 13,
    to: 21,
    dims: [3, 4],
    nodes: () => [node('SimplifiedLayerNormalization', ['x', 'gain'], 'y')],
    initializers: [Tensor.float32('gain', [4], [1, 2, 3, 4])],
  },
  'a branch of If': {
    from: 12,
    to: 19,
    dims: [2, 3],
    nodes: () => [
      node('ReduceMax', ['x'], 'top', [int('keepdims', 0)]),
      node('Greater', ['top', 'zero'], 'positive'),
      node('If', ['positive'], 'y', [
        {
          name: 'then_branch',
          type: 'graph',
          value: branch('t', [
            node('Softmax', ['x'], 's', [int('axis', 0)]),
            node('ReduceMean', ['s'], 't', [ints('axes', [1]), int('keepdims', 0)]),
          ]),
        },
        { name: 'else_branch', type: 'graph', value: branch('e', [node('ReduceL2', ['x'], 'e', [ints('axes', [1])])]) },
      ]),
    ],
    initializers: [Tensor.float32('zero', [], [0])],
  },
};

function build({ from, nodes, dims, initializers = [] }: Case): Model {
  return modelOf({
    nodes: nodes(),
    initializers,
    inputs: [value('x', 'float32', dims)],
    outputs: [{ name: 'y', dtype: 'float32', dims: null }],
    opset: from,
  });
}

async function run(model: Model, feeds: Record<string, HostTensor>): Promise<Readonly<Record<string, HostTensor>>> {
  const session = await host.createSession(inMemory(model, folder), CPU);
  return (await session.run(feeds)).outputs;
}

/** onnxruntime 1.30's optimizer breaks any opset 21 graph of INT8 QuantizeLinears that it turns into UINT8 ones: it forgets `output_dtype`. */
const OPTIONS: Readonly<Record<string, Partial<SessionOptions>>> = { quantized: { optimization: 'disabled' } };

describe('a lifted graph computes what it did', () => {
  it.each(Object.keys(CASES))('%s', async (name) => {
    const made = CASES[name] as Case;
    const size = made.dims.reduce((a, b) => a * b, 1);
    const feeds = { x: float32Tensor(randn(name.length, size), made.dims) };
    const converted = build(made);
    expect(convertOpset(made.to).run(converted)).toContain(`lifted opset ${made.from} to ${made.to}`);
    const [before, after] = [await run(build(made), feeds), await run(converted, feeds)];
    expect(after.y?.dims).toEqual(before.y?.dims);
    expect(relativeDeviation(floats(after, 'y'), floats(before, 'y'))).toBeLessThan(1e-6);
  });

  it('with GroupNormalization, as the same made of its parts', async () => {
    const [scale, bias] = [
      [1, 2],
      [0.5, -1],
    ];
    const converted = modelOf({
      nodes: [node('GroupNormalization', ['x', 's', 'b'], 'y', [int('num_groups', 2)])],
      initializers: [Tensor.float32('s', [2], scale as number[]), Tensor.float32('b', [2], bias as number[])],
      inputs: [value('x', 'float32', [1, 6, 5])],
      outputs: [value('y', 'float32', [1, 6, 5])],
      opset: 18,
    });
    convertOpset(21).run(converted);
    const x = randn(3, 30);
    const y = floats(await run(converted, { x: float32Tensor(x, [1, 6, 5]) }), 'y');
    const expected = Float32Array.from(x, (v, i) => {
      const group = Math.floor(i / 15);
      const values = x.slice(15 * group, 15 * group + 15);
      const mean = values.reduce((a, b) => a + b, 0) / 15;
      const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / 15;
      return ((v - mean) / Math.sqrt(variance + 1e-5)) * (scale?.[group] ?? 0) + (bias?.[group] ?? 0);
    });
    expect(relativeDeviation(y, expected)).toBeLessThan(1e-5);
  });
});

const MICRO_FEEDS = {
  hidden_states: float32Tensor(randn(4, 12 * 2 * 6 * 6), [1, 12, 2, 6, 6]),
  timestep: float32Tensor(Float32Array.of(500), [1]),
  encoder_hidden_states: float32Tensor(randn(5, 8 * 64), [1, 8, 64]),
};

const TOKENS: HostTensor = {
  dtype: 'int64',
  dims: [1, 32],
  data: BigInt64Array.from({ length: 32 }, (_, i) => BigInt(i < 9 ? 5 + i : i === 9 ? 1 : 0)),
};
const MASK: HostTensor = {
  dtype: 'int64',
  dims: [1, 32],
  data: BigInt64Array.from({ length: 32 }, (_, i) => (i < 10 ? 1n : 0n)),
};

describe.each([21, 23])('a component of the micro pipeline, lifted from opset 20 to %i', (to) => {
  it.each<[string, Record<string, HostTensor>]>([
    ['transformer', MICRO_FEEDS],
    ['text_encoder', { input_ids: TOKENS, attention_mask: MASK }],
  ])('computes what it did: %s', async (component, feeds) => {
    const { model, close } = await loadModel(path.join(MICRO_PIPELINE, component, 'model.onnx'));
    await close();
    const fed = Object.fromEntries(
      Object.entries(feeds).filter(([name]) => model.graph.inputs.some((i) => i.name === name)),
    );
    const before = await run(model, fed);
    expect(convertOpset(to).run(model)).toBe(`lifted opset 20 to ${to}`);
    const after = await run(model, fed);
    for (const name of Object.keys(before)) {
      expect(relativeDeviation(floats(after, name), floats(before, name))).toBeLessThan(1e-6);
    }
  });
});

/** Those whose inputs are a Wan transformer's. */
const exported = (await readVariants()).filter(({ name }) => name !== 'not-wan');

describe('an export of the small Wan transformer, lifted', () => {
  it.each(
    exported.flatMap((variant) =>
      [19, 21].flatMap((to) => (to > variant.opset ? [[variant.name, variant.opset, to, variant] as const] : [])),
    ),
  )('computes what it did: %s, %i to %i', async (name, from, to, variant) => {
    const pipeline = path.join(folder, `${name}-${to}`);
    await unpackVariant(name, pipeline);
    const file = path.join(pipeline, 'transformer', 'model.onnx');
    const [original, lifted] = await Promise.all([loadModel(file), loadModel(file)]);
    await Promise.all([original.close(), lifted.close()]);
    expect(convertOpset(to).run(lifted.model)).toContain(`lifted opset ${from} to ${to}`);
    const [first] = await readCases(variant);
    if (!first) throw new Error('a variant without a case');
    const { feeds, output } = feedsOf(original.model.graph, first);
    const [before, after] = await Promise.all(
      [original, lifted].map(async ({ model }) => {
        const source = inMemory(model, path.dirname(file));
        const session = await host.createSession(source, { ...CPU, ...OPTIONS[name] });
        return (await session.run(feeds)).outputs[output] as HostTensor;
      }),
    );
    expect(relativeDeviation(toFloat32(after as HostTensor), toFloat32(before as HostTensor))).toBeLessThan(1e-6);
  });
});
