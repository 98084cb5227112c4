import { describe, expect, it } from 'vitest';
import { type Attribute, int, ints } from '../../../src/ir/attribute.js';
import { Graph, Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graphText } from '../../../src/ir/text.js';
import { convertOpset } from '../../../src/passes/convert-opset.js';
import { runPasses } from '../../../src/passes/pass.js';
import { thrownBy } from '../helpers/errors.js';
import { graph, model, node } from '../helpers/graphs.js';

const text = (name: string, value: string): Attribute => ({ name, type: 'string', value: Buffer.from(value) });

/** Lines of a model's text that say what its nodes and constants are. */
function lines(made: Model): string[] {
  return graphText(made)
    .split('\n')
    .filter((line) => line.includes(' = '));
}

/** What becomes of nodes of opset `from`. */
function lifted(from: number, to: number, ...nodes: Node[]): string[] {
  const made = model({ nodes, inputs: ['x'], outputs: ['y'] }, from);
  expect(runPasses(made, [convertOpset(to)])).toHaveLength(1);
  const result = lines(made);
  expect(made.opset).toBe(to);
  expect(runPasses(made, [convertOpset(to)])).toEqual([]);
  expect(lines(made)).toEqual(result);
  return result;
}

const refused = (from: number, to: number, ...nodes: Node[]): string =>
  ((error) => `${error.code}: ${error.message} (${error.hint})`)(
    thrownBy(() => runPasses(model({ nodes, inputs: ['x'], outputs: ['y'] }, from), [convertOpset(to)])),
  );

describe('convert-opset', () => {
  it.each(['Max', 'Min', 'Mean', 'Prod', 'L1', 'L2', 'LogSum', 'LogSumExp', 'SumSquare'])(
    'makes the axes of Reduce%s an input at 18',
    (kind) => {
      const reduce = (): Node => node(`Reduce${kind}`, ['x'], 'y', [ints('axes', [1, -1]), int('keepdims', 0)]);
      expect(lifted(17, 19, reduce())).toEqual([
        'initializer wanq.axes: int64[2] = 1, -1',
        `y = Reduce${kind}(x, wanq.axes) {keepdims: 0} "y"`,
      ]);
      expect(lifted(13, 17, reduce())).toEqual([`y = Reduce${kind}(x) {axes: [1, -1], keepdims: 0} "y"`]);
    },
  );

  it('leaves a reduction over everything without axes', () => {
    expect(lifted(17, 18, node('ReduceMax', ['x'], 'y'))).toEqual(['y = ReduceMax(x) "y"']);
    expect(lifted(17, 18, node('ReduceMax', ['x'], 'y', [ints('axes', [])]))).toEqual(['y = ReduceMax(x) "y"']);
  });

  it.each(['ReduceSum', 'Squeeze', 'Unsqueeze'])('makes the axes of %s an input at 13', (opType) => {
    expect(lifted(11, 13, node(opType, ['x'], 'y', [ints('axes', [0])]))).toEqual([
      'initializer wanq.axes: int64[1] = 0',
      `y = ${opType}(x, wanq.axes) "y"`,
    ]);
  });

  it('keeps constants that are alike once', () => {
    const reduce = (output: string, axes: number[]): Node => node('ReduceMean', ['x'], output, [ints('axes', axes)]);
    expect(lifted(17, 19, reduce('a', [-1]), reduce('b', [-1]), reduce('y', [1]))).toEqual([
      'initializer wanq.axes: int64[1] = -1',
      'initializer wanq.axes_1: int64[1] = 1',
      'a = ReduceMean(x, wanq.axes) "a"',
      'b = ReduceMean(x, wanq.axes) "b"',
      'y = ReduceMean(x, wanq.axes_1) "y"',
    ]);
  });

  it('makes the parts of Split an input at 13', () => {
    const split = new Node({
      opType: 'Split',
      inputs: ['x'],
      outputs: ['y', 'z'],
      attributes: [ints('split', [1, 3])],
    });
    expect(lifted(11, 18, split)).toEqual(['initializer wanq.split: int64[2] = 1, 3', 'y, z = Split(x, wanq.split)']);
  });

  it('states how many equal parts Split makes at 18', () => {
    const split = (): Node => new Node({ opType: 'Split', inputs: ['x'], outputs: ['y', 'z'] });
    expect(lifted(13, 18, split())).toEqual(['y, z = Split(x) {num_outputs: 2}']);
    expect(lifted(11, 18, split())).toEqual(['y, z = Split(x) {num_outputs: 2}']);
    expect(lifted(13, 17, split())).toEqual(['y, z = Split(x)']);
  });

  it.each(['Softmax', 'LogSoftmax', 'Hardmax'])('lays flat what %s normalized together before 13', (opType) => {
    expect(lifted(12, 13, node(opType, ['x'], 'y'))).toEqual([
      'y_shape = Shape(x) "y_shape"',
      'y_flat = Flatten(x) {axis: 1} "y_flat"',
      `y_flat_result = ${opType}(y_flat) {axis: -1} "y"`,
      'y = Reshape(y_flat_result, y_shape) "y"',
    ]);
    expect(lifted(12, 13, node(opType, ['x'], 'y', [int('axis', -1)]))).toEqual([`y = ${opType}(x) {axis: -1} "y"`]);
    expect(lifted(13, 21, node(opType, ['x'], 'y', [int('axis', 1)]))).toEqual([`y = ${opType}(x) {axis: 1} "y"`]);
  });

  it('takes the ratio from Dropout at 12', () => {
    const ratio: Attribute = { name: 'ratio', type: 'float', value: 0.5 };
    expect(lifted(11, 13, node('Dropout', ['x'], 'y', [ratio]))).toEqual(['y = Dropout(x) "y"']);
  });

  it('leaves the scales of Resize out at 13 where sizes are given', () => {
    expect(lifted(11, 19, node('Resize', ['x', 'roi', 'empty', 'sizes'], 'y'))).toEqual([
      'y = Resize(x, roi, _, sizes) "y"',
    ]);
    expect(lifted(11, 19, node('Resize', ['x', 'roi', 'scales'], 'y'))).toEqual(['y = Resize(x, roi, scales) "y"']);
    expect(
      refused(
        11,
        13,
        node('Resize', ['x', 'roi', 's'], 'y', [text('coordinate_transformation_mode', 'tf_half_pixel_for_nn')]),
      ),
    ).toContain('Resize "y" transforms coordinates as tf_half_pixel_for_nn');
  });

  it('keeps what RoiAlign did by default before 16', () => {
    expect(lifted(15, 16, node('RoiAlign', ['x', 'r', 'b'], 'y'))).toEqual([
      'y = RoiAlign(x, r, b) {coordinate_transformation_mode: "output_half_pixel"} "y"',
    ]);
  });

  it.each([
    ['bilinear', 'linear'],
    ['bicubic', 'cubic'],
    ['nearest', 'nearest'],
  ])('calls the mode %s of GridSample %s at 20', (before, after) => {
    expect(lifted(19, 20, node('GridSample', ['x', 'g'], 'y', [text('mode', before)]))).toEqual([
      `y = GridSample(x, g) {mode: "${after}"} "y"`,
    ]);
  });

  it('makes the axis of DFT an input at 20, by default the one it was', () => {
    expect(lifted(17, 20, node('DFT', ['x'], 'y', [int('onesided', 1)]))).toEqual([
      'initializer wanq.axis: int64[] = 1',
      'y = DFT(x, _, wanq.axis) {onesided: 1} "y"',
    ]);
    expect(lifted(19, 21, node('DFT', ['x', 'length'], 'y', [int('axis', 2)]))).toEqual([
      'initializer wanq.axis: int64[] = 2',
      'y = DFT(x, length, wanq.axis) "y"',
    ]);
  });

  it('spreads scale and bias of GroupNormalization over the channels at 21', () => {
    const made = lifted(18, 21, node('GroupNormalization', ['x', 's', 'b'], 'y', [int('num_groups', 2)]));
    expect(made.at(-1)).toBe('y = GroupNormalization(x, y_scale, y_bias) {num_groups: 2} "y"');
    expect(made).toContain('y_channels = Shape(x) {start: 1, end: 2} "y_channels"');
    expect(made).toContain('y_scale = Reshape(y_scale_wide, wanq.axes) "y_scale"');
  });

  it('refuses BatchNormalization in training, and drops outputs it leaves out', () => {
    const norm = (...outputs: string[]): Node =>
      new Node({ opType: 'BatchNormalization', inputs: ['x', 's', 'b', 'm', 'v'], outputs });
    expect(lifted(13, 15, norm('y', '', ''))).toEqual(['y = BatchNormalization(x, s, b, m, v)']);
    expect(refused(13, 15, norm('y', 'mean'))).toContain('BatchNormalization "y" is in training mode');
  });

  it.each([
    ['AveragePool', 18, 19],
    ['AveragePool', 19, 22],
    ['MaxPool', 21, 22],
  ])('refuses %s with ceil_mode from %i to %i', (opType, from, to) => {
    expect(lifted(from, to, node(opType, ['x'], 'y'))).toEqual([`y = ${opType}(x) "y"`]);
    expect(refused(from, to, node(opType, ['x'], 'y', [int('ceil_mode', 1)]))).toContain('has ceil_mode');
  });

  it('says which operator it does not know, where, and what to do', () => {
    expect(refused(17, 19, node('Relu', ['x'], 'h'), node('Novel', ['h'], 'y'))).toBe(
      'MODEL_UNSUPPORTED: Novel "y" is of an operator that wanq cannot lift from opset 17 (export the model again with opset 19)',
    );
    expect(refused(17, 19, node('constructor', ['x'], 'y'))).toContain('constructor "y" is of an operator');
    expect(refused(17, 19, node('Novel\u001b[31m', ['x'], 'y'))).not.toContain('\u001b');
    expect(refused(17, 19, node('Gelu', ['x'], 'y'))).toContain(
      'Gelu "y" is of an operator that opset 17 does not have',
    );
    expect(refused(10, 19, node('Relu', ['x'], 'y'))).toContain('uses opset 10, and wanq lifts those from 11 on');
  });

  it('leaves what onnxruntime put into the domain itself', () => {
    expect(lifted(13, 21, node('SimplifiedLayerNormalization', ['x', 'g'], 'y'))).toEqual([
      'y = SimplifiedLayerNormalization(x, g) "y"',
    ]);
    expect(lifted(13, 21, node('LayerNormalization', ['x', 'g'], 'y'))).toEqual(['y = LayerNormalization(x, g) "y"']);
  });

  it('changes nothing where one node cannot be converted', () => {
    const made = model(
      { nodes: [node('ReduceMax', ['x'], 'h', [ints('axes', [0])]), node('Novel', ['h'], 'y')], outputs: ['y'] },
      17,
    );
    const before = graphText(made);
    thrownBy(() => runPasses(made, [convertOpset(19)]));
    thrownBy(() => convertOpset(19).run(made));
    expect(graphText(made)).toBe(before);
  });

  it('leaves nodes of other domains, and calls them by their explicit default name', () => {
    const custom = node('ReduceMax', ['x'], 'h', [ints('axes', [0])], { domain: 'com.example' });
    const explicit = node('ReduceMax', ['h'], 'y', [ints('axes', [0])], { domain: 'ai.onnx' });
    expect(lifted(17, 19, custom, explicit).slice(1)).toEqual([
      'h = com.example.ReduceMax(x) {axes: [0]} "h"',
      'y = ai.onnx.ReduceMax(h, wanq.axes) "y"',
    ]);
  });

  it('converts what is in subgraphs, with constants of the outermost graph', () => {
    const inner = graph({
      nodes: [node('ReduceMax', ['x'], 'inside', [ints('axes', [0])]), node('Softmax', ['inside'], 'wanq.axes')],
      outputs: ['wanq.axes'],
    });
    const made = lifted(12, 19, node('If', ['x'], 'y', [{ name: 'then_branch', type: 'graph', value: inner }]));
    expect(made[0]).toBe('initializer wanq.axes_1: int64[1] = 0');
    expect(made).toContain('    inside = ReduceMax(x, wanq.axes_1) "inside"');
    expect(made.filter((line) => line.startsWith('    '))).toHaveLength(5);
    expect(
      refused(
        17,
        19,
        node('If', ['x'], 'y', [
          { name: 'then_branch', type: 'graph', value: graph({ nodes: [node('Novel', ['x'], 'z')], outputs: ['z'] }) },
        ]),
      ),
    ).toContain('Novel "z"');
  });

  it.each([
    [11, 13, 6, 7],
    [13, 18, 8, 8],
    [17, 19, 8, 9],
    [17, 19, 10, 10],
    [20, 21, 8, 10],
    [20, 23, 8, 11],
    [20, 25, 8, 13],
  ])('from opset %i to %i raises IR version %i to %i', (from, to, before, after) => {
    const made = new Model({
      irVersion: before,
      opsets: [
        { domain: 'com.microsoft', version: 1 },
        { domain: '', version: from },
      ],
      graph: graph({ nodes: [node('Relu', ['x'], 'y')], inputs: ['x'], outputs: ['y'] }),
    });
    expect(convertOpset(to).run(made)).toBe(`lifted opset ${from} to ${to}`);
    expect(made.irVersion).toBe(after);
    expect(made.opsets).toEqual([
      { domain: 'com.microsoft', version: 1 },
      { domain: '', version: to },
    ]);
  });

  it('says how many nodes it rewrote', () => {
    const nodes = [node('ReduceMax', ['x'], 'h', [ints('axes', [0])]), node('ReduceMax', ['h'], 'y')];
    expect(convertOpset(19).run(model({ nodes }, 17))).toBe('lifted opset 17 to 19, rewrote 1 node');
  });

  it('leaves a newer model alone, whatever is in it', () => {
    const made = model({ nodes: [node('Novel', ['x'], 'y')] }, 23);
    expect(runPasses(made, [convertOpset(19), convertOpset(23)])).toEqual([]);
    expect(made.opset).toBe(23);
  });

  it.each([10, 26, 19.5])('is not made for opset %d', (to) => {
    expect(() => convertOpset(to)).toThrow(RangeError);
  });

  describe('with model-local functions', () => {
    const calling = (inside: Node, version: number, domain = 'local'): Model =>
      new Model({
        irVersion: 8,
        opsets: [
          { domain: '', version: 17 },
          { domain, version: 1 },
        ],
        graph: new Graph({
          name: 'test',
          nodes: [node('Scale', ['x'], 'y', [], { domain })],
          initializers: [Tensor.float32('w', [], [1])],
          inputs: [],
          outputs: [],
        }),
        functions: [
          {
            ...{ domain, name: 'Scale', overload: '', inputs: ['a'], outputs: ['b'], defaults: [] },
            nodes: [inside],
            opsets: [{ domain: '', version }],
          },
        ],
      });

    it('leaves those whose operators are the same in both opsets', () => {
      const made = calling(node('Mul', ['a', 'a'], 'b'), 17);
      expect(convertOpset(19).run(made)).toBe('lifted opset 17 to 19');
      expect(made.functions[0]?.opsets).toEqual([{ domain: '', version: 17 }]);
    });

    it('knows a call by its name in the default domain', () => {
      expect(convertOpset(19).run(calling(node('Mul', ['a', 'a'], 'b'), 17, ''))).toBe('lifted opset 17 to 19');
    });

    it('refuses those that would have to change', () => {
      const made = calling(node('ReduceMax', ['a'], 'b', [ints('axes', [0])]), 17);
      expect(thrownBy(() => runPasses(made, [convertOpset(19)])).message).toContain(
        'ReduceMax "b" changed since opset 17, and it is part of the function Scale',
      );
      expect(convertOpset(19).run(calling(node('ReduceMax', ['a', 'axes'], 'b'), 19))).toBe('lifted opset 17 to 19');
    });
  });
});
