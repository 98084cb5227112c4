import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { int, ints } from '../../../src/ir/attribute.js';
import { DataType, type DataTypeName } from '../../../src/ir/dtype.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graphText } from '../../../src/ir/text.js';
import { type ComputeFloat16Options, computeFloat16, FLOAT16_MARGIN } from '../../../src/passes/compute-float16.js';
import { runPasses } from '../../../src/passes/pass.js';
import { storeFloat16 } from '../../../src/passes/store-float16.js';
import { read } from '../../helpers/source.js';
import { expectRejection } from '../helpers/errors.js';
import { graph, model, node } from '../helpers/graphs.js';

const weight = (name: string, dims: readonly number[] = [4, 4]): Tensor =>
  Tensor.float32(
    name,
    dims,
    Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i / 3),
  );

const cast = (input: string, output: string, to: DataTypeName): Node =>
  node('Cast', [input], output, [int('to', DataType[to])]);

interface Outcome {
  readonly made: Model;
  /** Nodes, as text. */
  readonly nodes: string[];
  readonly overflow: readonly string[];
}

/** Runs the pass over all linears, and once more, which changes nothing. */
function convert(made: Model, options: Partial<ComputeFloat16Options> = {}): Outcome {
  const overflow: string[] = [];
  const given = { linears: findLinears(made.graph), attention: true, ranges: new Map(), ...options };
  runPasses(made, [computeFloat16({ ...given, overflow })]);
  const text = graphText(made);
  const again = { ...given, linears: findLinears(made.graph), overflow: [] };
  expect(runPasses(made, [computeFloat16({ ...given, overflow: [] }), computeFloat16(again)])).toEqual([]);
  expect(graphText(made)).toBe(text);
  expectValid(made);
  const nodes = text.split('\n').filter((line) => / = \w+\(/.test(line));
  return { made, nodes: nodes.map((line) => line.replace(/ "[^"]*"$/, '')), overflow };
}

/** Whether every value is made before it is read, and once. */
function expectValid({ graph: of }: Model): void {
  const known = new Set([...of.inputs.map(({ name }) => name), ...of.initializers.keys()]);
  for (const { inputs, outputs } of of.nodes) {
    expect(inputs.filter((name) => name !== '' && !known.has(name))).toEqual([]);
    expect(outputs.filter((name) => known.has(name))).toEqual([]);
    for (const name of outputs) known.add(name);
  }
  expect(of.outputs.filter(({ name }) => !known.has(name))).toEqual([]);
}

const product = (nodes: Node[], ...initializers: Tensor[]): Model =>
  model({ nodes, initializers, inputs: ['x'], outputs: ['y'] });

describe('compute-float16', () => {
  it('puts Casts around a product and its bias, whose constants it stores so', async () => {
    const w = weight('w');
    const { made, nodes } = convert(
      product([node('MatMul', ['x', 'w'], 'p'), node('Add', ['b', 'p'], 'y')], w, weight('b', [4])),
    );
    expect(nodes).toEqual([
      'x_float16 = Cast(x) {to: 10}',
      'p = MatMul(x_float16, w_float16)',
      'y_float16 = Add(b_float16, p)',
      'y = Cast(y_float16) {to: 1}',
    ]);
    expect([...made.graph.initializers.keys()]).toEqual(['w_float16', 'b_float16']);
    const stored = made.graph.initializers.get('w_float16') as Tensor;
    expect(stored).toMatchObject({ dtype: 'float16', dims: [4, 4], data: { source: w } });
    expect((await read(stored)).byteLength).toBe(32);
    expect(made.graph.outputs).toMatchObject([{ name: 'y', dtype: 'float32' }]);
  });

  it('leaves what has more outputs than its operator', () => {
    const odd = (...args: Parameters<typeof node>): Node => {
      const made = node(...args);
      made.outputs.push(`${made.name}_more`);
      return made;
    };
    const { nodes } = convert(
      product(
        [
          odd('MatMul', ['x', 'w'], 'odd'),
          node('MatMul', ['odd', 'w'], 'p'),
          odd('Add', ['p', 'b'], 'biased'),
          odd('Transpose', ['p'], 'moved'),
          odd('Transpose', ['w'], 'v'),
          node('MatMul', ['moved', 'v'], 'y'),
        ],
        weight('w'),
        weight('b', [4]),
      ),
    );
    expect(nodes.filter((line) => line.includes('_more'))).toEqual([
      'odd, odd_more = MatMul(x, w)',
      'biased, biased_more = Add(p, b)',
      'moved, moved_more = Transpose(p)',
      'v, v_more = Transpose(w)',
    ]);
  });

  it('leaves products of attention that have more outputs than one', () => {
    const scores = node('MatMul', ['x', 'k'], 's');
    scores.outputs.push('more');
    const nodes = [scores, node('Softmax', ['s'], 'p'), node('MatMul', ['p', 'v'], 'y')];
    const made = convert(model({ nodes, inputs: ['x', 'k', 'v'], outputs: ['y'] }));
    expect(made.nodes).toContain('s, more = MatMul(x, k)');
  });

  it('says what it did', () => {
    const made = product(
      [node('MatMul', ['x', 'w'], 'p'), node('Add', ['p', 'b'], 'y')],
      weight('w'),
      weight('b', [4]),
    );
    const pass = computeFloat16({ linears: findLinears(made.graph), attention: true, ranges: new Map(), overflow: [] });
    expect(pass.run(made)).toBe('1 product and 1 other node in FP16, 2 casts added');
  });

  it('computes what stands between two products in FP16 without Casts', () => {
    const { nodes } = convert(
      product(
        [
          node('MatMul', ['x', 'v'], 'up'),
          node('Add', ['up', 'b'], 'biased'),
          node('Gelu', ['biased'], 'gelu'),
          node('Reshape', ['gelu', 'shape'], 'shaped'),
          node('Transpose', ['shaped'], 'turned'),
          node('MatMul', ['turned', 'w'], 'y'),
        ],
        ...[weight('v'), weight('w'), weight('b', [4]), Tensor.int64('shape', [2], [-1, 4])],
      ),
    );
    expect(nodes).toEqual([
      'x_float16 = Cast(x) {to: 10}',
      'up = MatMul(x_float16, v_float16)',
      'biased = Add(up, b_float16)',
      'gelu = Gelu(biased)',
      'shaped = Reshape(gelu, shape)',
      'turned = Transpose(shaped)',
      'y_float16 = MatMul(turned, w_float16)',
      'y = Cast(y_float16) {to: 1}',
    ]);
  });

  it('casts a value that several products read once, and a result that several nodes read once', () => {
    const { nodes } = convert(
      product(
        [
          node('Relu', ['x'], 'r'),
          node('MatMul', ['r', 'v'], 'a'),
          node('MatMul', ['r', 'w'], 'b'),
          node('Mul', ['a', 'b'], 'm'),
          node('Sub', ['a', 'm'], 'y'),
        ],
        ...[weight('v'), weight('w')],
      ),
    );
    expect(nodes).toEqual([
      'r = Relu(x)',
      'r_float16 = Cast(r) {to: 10}',
      'a_float16 = MatMul(r_float16, v_float16)',
      'a = Cast(a_float16) {to: 1}',
      'b_float16 = MatMul(r_float16, w_float16)',
      'b = Cast(b_float16) {to: 1}',
      'm = Mul(a, b)',
      'y = Sub(a, m)',
    ]);
  });

  it('leaves what moves values from or to FP32 nodes FP32', () => {
    const { nodes } = convert(
      product(
        [
          node('Transpose', ['x'], 't'),
          node('MatMul', ['t', 'w'], 'p'),
          node('Reshape', ['p', 'shape'], 'r'),
          node('Softmax', ['r'], 'y'),
        ],
        ...[weight('w'), Tensor.int64('shape', [1], [-1])],
      ),
    );
    expect(nodes).toEqual([
      't = Transpose(x)',
      't_float16 = Cast(t) {to: 10}',
      'p_float16 = MatMul(t_float16, w_float16)',
      'p = Cast(p_float16) {to: 1}',
      'r = Reshape(p, shape)',
      'y = Softmax(r)',
    ]);
  });

  it('takes no modulation for a bias', () => {
    const { nodes } = convert(
      product(
        [
          node('MatMul', ['x', 'w'], 'p'),
          node('Add', ['p', 'table'], 'modulated'),
          node('Add', ['modulated', 'x'], 'y'),
        ],
        ...[weight('w'), weight('table', [1, 6, 4])],
      ),
    );
    expect(nodes).toContain('modulated = Add(p, table)');
    expect(nodes).toContain('y = Add(modulated, x)');
  });

  it('computes Gemm and Conv with their biases', () => {
    const { nodes } = convert(
      model({
        nodes: [node('Conv', ['x', 'k', 'b'], 'c'), node('Gemm', ['z', 'w', 'b'], 'y'), node('Relu', ['c'], 'r')],
        initializers: [weight('k', [4, 2, 1, 1]), weight('w'), weight('b', [4])],
        inputs: ['x', 'z'],
        outputs: ['y', 'r'],
      }),
    );
    expect(nodes).toContain('c_float16 = Conv(x_float16, k_float16, b_float16)');
    expect(nodes).toContain('y_float16 = Gemm(z_float16, w_float16, b_float16)');
  });

  describe('with attention', () => {
    const attention = (): Model =>
      model({
        nodes: [
          node('Mul', ['q', 'scale'], 'scaled'),
          node('MatMul', ['scaled', 'k'], 'scores'),
          node('Add', ['scores', 'mask'], 'masked'),
          node('Softmax', ['masked'], 'shares'),
          node('MatMul', ['shares', 'v'], 'mixed'),
          node('Transpose', ['mixed'], 'turned'),
          node('MatMul', ['turned', 'w'], 'y'),
        ],
        initializers: [weight('w'), weight('scale', [])],
        inputs: ['q', 'k', 'v', 'mask'],
        outputs: ['y'],
      });

    it('computes the products around a softmax in FP16, and scales, masks and softmax in FP32', () => {
      expect(convert(attention()).nodes).toEqual([
        'k_float16 = Cast(k) {to: 10}',
        'v_float16 = Cast(v) {to: 10}',
        'scaled = Mul(q, scale)',
        'scaled_float16 = Cast(scaled) {to: 10}',
        'scores_float16 = MatMul(scaled_float16, k_float16)',
        'scores = Cast(scores_float16) {to: 1}',
        'masked = Add(scores, mask)',
        'shares = Softmax(masked)',
        'shares_float16 = Cast(shares) {to: 10}',
        'mixed = MatMul(shares_float16, v_float16)',
        'turned = Transpose(mixed)',
        'y_float16 = MatMul(turned, w_float16)',
        'y = Cast(y_float16) {to: 1}',
      ]);
    });

    it('leaves them where attention is not asked for, or is too large', () => {
      const without = convert(attention(), { attention: false }).nodes;
      expect(without).toContain('scores = MatMul(scaled, k)');
      expect(without).toContain('turned = Transpose(mixed)');
      const { nodes, overflow } = convert(attention(), { ranges: new Map([['scores', 30_000]]) });
      expect(nodes).toContain('scores = MatMul(scaled, k)');
      expect(nodes).toContain('mixed = MatMul(shares_float16, v_float16)');
      expect(overflow).toEqual(['scores']);
    });
  });

  it('keeps norms FP32', () => {
    const { nodes } = convert(
      product(
        [
          node('MatMul', ['x', 'w'], 'q'),
          node('Pow', ['q', 'two'], 'square'),
          node('ReduceMean', ['square', 'axes'], 'mean'),
          node('Sqrt', ['mean'], 'root'),
          node('Div', ['q', 'root'], 'normed'),
          node('LayerNormalization', ['normed', 'gain'], 'layer'),
          node('Sin', ['layer'], 'wave'),
          node('MatMul', ['wave', 'w'], 'y'),
        ],
        ...[weight('w'), Tensor.float32('two', [], [2]), Tensor.int64('axes', [1], [-1]), weight('gain', [4])],
      ),
    );
    for (const line of [
      'q = Cast(q_float16) {to: 1}',
      'square = Pow(q, two)',
      'mean = ReduceMean(square, axes)',
      'root = Sqrt(mean)',
      'normed = Div(q, root)',
      'layer = LayerNormalization(normed, gain)',
      'wave = Sin(layer)',
      'wave_float16 = Cast(wave) {to: 10}',
    ]) {
      expect(nodes).toContain(line);
    }
  });

  describe('constants', () => {
    it('stays where somebody else reads it, with a FP16 twin', () => {
      const { made, nodes } = convert(
        product([node('MatMul', ['x', 'w'], 'p'), node('Mul', ['p', 'w'], 'y')], weight('w')),
      );
      expect([...made.graph.initializers.keys()]).toEqual(['w', 'w_float16']);
      expect(nodes.slice(1)).toEqual([
        'p_float16 = MatMul(x_float16, w_float16)',
        'p = Cast(p_float16) {to: 1}',
        'y = Mul(p, w)',
      ]);
    });

    it('stays where a subgraph or the outside reads it', () => {
      const branch = graph({ nodes: [node('Neg', ['w'], 'inside')], outputs: ['inside'] });
      const made = model({
        nodes: [
          node('MatMul', ['x', 'w'], 'p'),
          node('MatMul', ['x', 'v'], 'r'),
          node('If', ['p'], 'y', [{ name: 'then_branch', type: 'graph', value: branch }]),
        ],
        initializers: [weight('w'), weight('v')],
        inputs: ['x'],
        outputs: ['y', 'v', 'r'],
      });
      expect([...convert(made).made.graph.initializers.keys()]).toEqual(['w', 'v', 'w_float16', 'v_float16']);
    });

    it('is turned in FP16 where a Transpose stands before one product', () => {
      const { nodes } = convert(
        product(
          [node('Transpose', ['w'], 't'), node('Identity', ['t'], 'i'), node('MatMul', ['x', 'i'], 'y')],
          weight('w'),
        ),
      );
      expect(nodes).toEqual([
        'x_float16 = Cast(x) {to: 10}',
        't = Transpose(w_float16)',
        'i = Identity(t)',
        'y_float16 = MatMul(x_float16, i)',
        'y = Cast(y_float16) {to: 1}',
      ]);
    });

    it('is cast behind a Transpose that others read too', () => {
      const { nodes } = convert(
        product(
          [node('Transpose', ['w'], 't'), node('MatMul', ['x', 't'], 'p'), node('Mul', ['p', 't'], 'y')],
          weight('w'),
        ),
      );
      expect(nodes).toContain('t = Transpose(w)');
      expect(nodes).toContain('t_float16 = Cast(t) {to: 10}');
    });

    it('is taken as it is stored in FP16 before a Cast', () => {
      const made = product(
        [node('MatMul', ['x', 'w'], 'p'), node('Add', ['p', 'b'], 'y')],
        weight('w'),
        weight('b', [4]),
      );
      storeFloat16(new Set(['w', 'b'])).run(made);
      expect(convert(made).nodes).toEqual([
        'x_float16 = Cast(x) {to: 10}',
        'p = MatMul(x_float16, w_float16)',
        'y_float16 = Add(p, b_float16)',
        'y = Cast(y_float16) {to: 1}',
      ]);
    });

    it('comes of a Constant node too, which goes', () => {
      const constant = node('Constant', [], 'w', [{ name: 'value', type: 'tensor', value: weight('') }]);
      const { made, nodes } = convert(product([constant, node('MatMul', ['x', 'w'], 'y')]));
      expect(nodes[1]).toBe('y_float16 = MatMul(x_float16, w_float16)');
      expect(made.graph.initializers.get('w_float16')?.data).toMatchObject({ source: { name: 'w' } });
      expect(made.graph.nodes.map(({ opType }) => opType)).not.toContain('Constant');
    });

    it('is cast where a caller may give another', () => {
      const made = model({
        nodes: [node('MatMul', ['x', 'w'], 'y')],
        initializers: [weight('w')],
        inputs: ['x', 'w'],
        outputs: ['y'],
      });
      const { nodes } = convert(made, { linears: findLinears(made.graph) });
      expect(nodes).toContain('w_float16 = Cast(w) {to: 10}');
      expect(made.graph.inputs.map(({ name, dtype }) => [name, dtype])).toEqual([
        ['x', 'float32'],
        ['w', 'float32'],
      ]);
    });

    it.each([65_520, -1e9, Number.NaN, Number.POSITIVE_INFINITY])(
      'keeps its product FP32 where it holds %d',
      (large) => {
        const { nodes, overflow } = convert(
          product(
            [node('Transpose', ['w'], 't'), node('MatMul', ['x', 't'], 'p'), node('Add', ['p', 'b'], 'y')],
            ...[weight('w'), Tensor.float32('b', [4], [0, large, 0, 0])],
          ),
        );
        expect(nodes).toEqual(['t = Transpose(w)', 'p = MatMul(x, t)', 'y = Add(p, b)']);
        expect(overflow).toEqual(['b']);
      },
    );

    it('in another file fails when the model is saved', async () => {
      const external = new Tensor('w', 'float32', [2, 2], {
        kind: 'external',
        location: 'data',
        offset: 0,
        length: 16,
      });
      const { made } = convert(product([node('MatMul', ['x', 'w'], 'y')], external));
      const { data } = made.graph.initializers.get('w_float16') as Tensor;
      expect(data).toMatchObject({ kind: 'derived', source: external });
      const inline = new Tensor('w', 'float16', [1], {
        kind: 'derived',
        source: Tensor.float32('w', [1], [1e6]),
        form: { as: 'float16' },
      });
      await expectRejection(read(inline), 'MODEL_UNSUPPORTED');
    });
  });

  describe('ranges', () => {
    const chain = (): Model =>
      product(
        [
          node('Identity', ['x'], 'in'),
          node('MatMul', ['in', 'v'], 'up'),
          node('Add', ['up', 'b'], 'biased'),
          node('Gelu', ['biased'], 'gelu'),
          node('Transpose', ['gelu'], 'turned'),
          node('MatMul', ['turned', 'w'], 'y'),
        ],
        ...[weight('v'), weight('w'), weight('b', [4])],
      );
    const limit = 65_504 / FLOAT16_MARGIN;

    it.each(['in', 'up', 'biased', 'gelu', 'turned', 'y'])('of %s up to the limit keep nothing FP32', (name) => {
      const { overflow, nodes } = convert(chain(), { ranges: new Map([[name, limit]]) });
      expect(overflow).toEqual([]);
      expect(nodes).toContain('gelu = Gelu(biased)');
    });

    it.each<[string, string[], boolean, boolean]>([
      ['in', ['in'], false, true],
      ['up', ['up'], false, true],
      ['biased', ['biased', 'turned'], false, false],
      ['gelu', ['biased', 'turned'], false, false],
      ['turned', ['biased', 'turned'], false, false],
      ['y', ['y'], true, false],
    ])('of %s past it keep what reads or makes it FP32', (name, listed, up, down) => {
      for (const range of [limit * 1.001, Number.POSITIVE_INFINITY, Number.NaN]) {
        const { overflow, nodes } = convert(chain(), { ranges: new Map([[name, range]]) });
        expect(overflow).toEqual(listed);
        expect(nodes.includes('up = MatMul(in_float16, v_float16)')).toBe(up);
        expect(nodes.includes('up = MatMul(in, v)')).toBe(!up);
        expect(nodes.some((line) => line.includes('MatMul(turned_float16, w_float16)'))).toBe(down);
      }
    });

    it('that are known go before what follows from others', () => {
      const ranges = new Map([
        ['biased', 1e9],
        ['gelu', 10],
      ]);
      const { overflow, nodes } = convert(chain(), { ranges });
      expect(overflow).toEqual(['biased']);
      expect(nodes).toContain('y_float16 = MatMul(turned_float16, w_float16)');
    });

    it('of a weight need no room', () => {
      expect(convert(chain(), { ranges: new Map([['v', 65_504]]) }).overflow).toEqual([]);
      expect(convert(chain(), { ranges: new Map([['v', 65_536]]) }).overflow).toEqual(['v']);
    });
  });

  it('converts the linears it is given and no others', () => {
    const made = product([node('MatMul', ['x', 'v'], 'p'), node('MatMul', ['p', 'w'], 'y')], weight('v'), weight('w'));
    const [first] = findLinears(made.graph);
    const overflow: string[] = [];
    runPasses(made, [computeFloat16({ linears: first ? [first] : [], attention: true, ranges: new Map(), overflow })]);
    expect(made.graph.nodes.map(({ inputs }) => inputs)).toEqual([
      ['x'],
      ['x_float16', 'v_float16'],
      ['p_float16'],
      ['p', 'w'],
    ]);
    runPasses(made, [
      computeFloat16({ linears: findLinears(made.graph), attention: true, ranges: new Map(), overflow }),
    ]);
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['Cast', 'MatMul', 'MatMul', 'Cast']);
  });

  it('leaves products of other types, and says nothing of an empty graph', () => {
    const half = model({
      nodes: [cast('x', 'h', 'float16'), node('MatMul', ['h', 'w'], 'p'), cast('p', 'y', 'float32')],
      initializers: [Tensor.fromBytes('w', 'float16', [2, 2], new Uint8Array(8))],
      inputs: ['x'],
      outputs: ['y'],
    });
    const before = graphText(half);
    convert(half);
    expect(graphText(half)).toBe(before);
  });

  it('reads shapes, sizes and types of FP16 values without casting them', () => {
    const { nodes } = convert(
      model({
        nodes: [
          node('MatMul', ['x', 'w'], 'p'),
          node('Shape', ['p'], 'shape'),
          node('CastLike', ['count', 'p'], 'like'),
          cast('p', 'wide', 'float64'),
          node('MatMul', ['p', 'v'], 'y'),
        ],
        initializers: [weight('w'), weight('v'), Tensor.int64('count', [], [3])],
        inputs: ['x'],
        outputs: ['y', 'shape', 'like', 'wide'],
      }),
    );
    expect(nodes).toEqual([
      'x_float16 = Cast(x) {to: 10}',
      'p = MatMul(x_float16, w_float16)',
      'shape = Shape(p)',
      'like = Cast(count) {to: 1}',
      'wide = Cast(p) {to: 11}',
      'y_float16 = MatMul(p, v_float16)',
      'y = Cast(y_float16) {to: 1}',
    ]);
  });

  it('looks through Casts from FP32 to FP32', () => {
    const { nodes } = convert(
      product(
        [
          cast('x', 'same', 'float32'),
          node('MatMul', ['same', 'v'], 'p'),
          node('CastLike', ['p', 'x'], 'like'),
          node('Transpose', ['like'], 't'),
          cast('t', 'again', 'float32'),
          node('MatMul', ['again', 'w'], 'y'),
        ],
        ...[weight('v'), weight('w')],
      ),
    );
    expect(nodes).toEqual([
      'x_float16 = Cast(x) {to: 10}',
      'p = MatMul(x_float16, v_float16)',
      't = Transpose(p)',
      'y_float16 = MatMul(t, w_float16)',
      'y = Cast(y_float16) {to: 1}',
    ]);
  });

  it('has such a Cast make FP32 of what is FP16 now', () => {
    const { nodes } = convert(
      product(
        [node('MatMul', ['x', 'w'], 'p'), cast('p', 'same', 'float32'), node('Softmax', ['same'], 'y')],
        weight('w'),
      ),
    );
    expect(nodes.slice(1)).toEqual(['p = MatMul(x_float16, w_float16)', 'same = Cast(p) {to: 1}', 'y = Softmax(same)']);
  });

  it('leaves no Cast between an FP16 value that was there and a product', () => {
    const { nodes } = convert(
      model({
        nodes: [
          cast('x', 'narrow', 'float16'),
          node('Relu', ['narrow'], 'half'),
          cast('half', 'wide', 'float32'),
          node('MatMul', ['wide', 'w'], 'p'),
          cast('p', 'narrow_again', 'float16'),
          node('Relu', ['narrow_again'], 'r'),
          cast('r', 'y', 'float32'),
        ],
        initializers: [weight('w')],
        inputs: ['x'],
        outputs: ['y'],
      }),
    );
    expect(nodes).toEqual([
      'narrow = Cast(x) {to: 10}',
      'half = Relu(narrow)',
      'p = MatMul(half, w_float16)',
      'r = Relu(p)',
      'y = Cast(r) {to: 1}',
    ]);
  });

  it('reads the result of a Cast that stands further behind', () => {
    const { nodes } = convert(
      model({
        nodes: [node('MatMul', ['x', 'w'], 'y'), cast('x', 'narrow', 'float16'), node('Relu', ['narrow'], 'r')],
        initializers: [weight('w')],
        inputs: ['x'],
        outputs: ['y', 'r'],
      }),
    );
    expect(nodes).toEqual([
      'narrow = Cast(x) {to: 10}',
      'y_float16 = MatMul(narrow, w_float16)',
      'y = Cast(y_float16) {to: 1}',
      'r = Relu(narrow)',
    ]);
  });

  describe('beside quantized products', () => {
    const quantized = (type: 'float16' | 'float32'): Model => {
      const scale =
        type === 'float32'
          ? Tensor.float32('s', [], [1])
          : Tensor.fromBytes('s', 'float16', [], Uint8Array.of(0, 0x3c));
      const zero = Tensor.fromBytes('z', 'int8', [], Uint8Array.of(0));
      const pair = (input: string): Node[] => [
        cast(input, `${input}_narrow`, type),
        node('QuantizeLinear', [`${input}_narrow`, 's', 'z'], `${input}_q`),
        node('DequantizeLinear', [`${input}_q`, 's', 'z'], `${input}_dq`),
      ];
      const nodes = [
        ...pair('x'),
        node('DequantizeLinear', ['codes', 's', 'z'], 'w'),
        node('MatMul', ['x_dq', 'w'], 'p'),
        cast('p', 'up', 'float32'),
        node('Add', ['up', 'b'], 'biased'),
        node('Gelu', ['biased'], 'gelu'),
        ...pair('gelu'),
        node('MatMul', ['gelu_dq', 'w'], 'last'),
        cast('last', 'y', 'float32'),
      ];
      const codes = Tensor.fromBytes('codes', 'int8', [4, 4], new Uint8Array(16));
      return product(nodes, scale, zero, codes, weight('b', [4]));
    };
    const listed = (made: Model): ComputeFloat16Options['linears'] =>
      made.graph.nodes
        .filter(({ opType }) => opType === 'MatMul')
        .map((each) => ({ node: each }) as ComputeFloat16Options['linears'][number]);

    it('leaves them and what stands between them alone where they are not given', () => {
      const made = quantized('float16');
      const before = graphText(made);
      convert(made);
      expect(graphText(made)).toBe(before);
    });

    it('computes what stands between them in FP16 where they do', () => {
      const made = quantized('float16');
      const { nodes } = convert(made, { linears: listed(made) });
      expect(nodes.slice(4)).toEqual([
        'p = MatMul(x_dq, w)',
        'biased = Add(p, b_float16)',
        'gelu = Gelu(biased)',
        'gelu_q = QuantizeLinear(gelu, s, z)',
        'gelu_dq = DequantizeLinear(gelu_q, s, z)',
        'last = MatMul(gelu_dq, w)',
        'y = Cast(last) {to: 1}',
      ]);
    });

    it('computes in FP16 what stands behind products of integers, whose sums are made halves of', () => {
      const zero = Tensor.fromBytes('z', 'int8', [], Uint8Array.of(0));
      const scale = Tensor.fromBytes('s', 'float16', [], Uint8Array.of(0, 0x3c));
      const integers = (input: string, output: string): Node[] => [
        cast(input, `${input}_narrow`, 'float16'),
        node('QuantizeLinear', [`${input}_narrow`, 's', 'z'], `${input}_q`),
        node('MatMulInteger', [`${input}_q`, 'codes'], `${output}_sum`),
        cast(`${output}_sum`, `${output}_wide`, 'float32'),
        node('Mul', [`${output}_wide`, 'scales'], `${output}_scaled`),
        cast(`${output}_scaled`, `${output}_half`, 'float16'),
        cast(`${output}_half`, output, 'float32'),
      ];
      const nodes = [...integers('x', 'p'), node('Add', ['p', 'b'], 'biased'), node('Gelu', ['biased'], 'gelu')];
      const codes = Tensor.fromBytes('codes', 'int8', [4, 4], new Uint8Array(16));
      const scales = Tensor.float32('scales', [4], [1, 1, 1, 1]);
      const made = product([...nodes, ...integers('gelu', 'y')], scale, zero, codes, scales, weight('b', [4]));
      const linears = made.graph.nodes
        .filter(({ opType }) => opType === 'MatMulInteger')
        .map((each, i) => ({ node: each, output: ['p', 'y'][i] }) as ComputeFloat16Options['linears'][number]);
      const { nodes: lines } = convert(made, { linears });
      expect(lines.slice(5, 9)).toEqual([
        'p_half = Cast(p_scaled) {to: 10}',
        'biased = Add(p_half, b_float16)',
        'gelu = Gelu(biased)',
        'gelu_q = QuantizeLinear(gelu, s, z)',
      ]);
    });

    it('leaves those with FP32 scales as they are', () => {
      const made = quantized('float32');
      const before = graphText(made);
      convert(made, { linears: listed(made) });
      expect(graphText(made)).toBe(before);
    });
  });

  it('corrects the types that the graph states, and states those of new values', () => {
    const made = product(
      [node('MatMul', ['x', 'v'], 'p'), node('MatMul', ['p', 'w'], 'r'), node('Relu', ['r'], 'y')],
      weight('v'),
      weight('w'),
    );
    const stated = (name: string) => ({ name, dtype: 'float32', dims: ['n', 4] }) as const;
    made.graph.valueInfo = [stated('p'), stated('r'), stated('p')];
    convert(made);
    expect(made.graph.valueInfo.map(({ name, dtype, dims }) => [name, dtype, dims])).toEqual([
      ['p', 'float16', ['n', 4]],
      ['r', 'float32', ['n', 4]],
      ['p', 'float16', ['n', 4]],
      ['r_float16', 'float16', ['n', 4]],
      ['x_float16', 'float16', null],
    ]);
  });

  it('gives every part of a Split its type', () => {
    const parts = node('Split', ['p'], 'a', [int('num_outputs', 2)]);
    parts.outputs = ['a', 'b'];
    const { nodes } = convert(
      product(
        [
          node('MatMul', ['x', 'v'], 'p'),
          parts,
          node('Concat', ['a', 'fixed'], 'c', [int('axis', 1)]),
          node('MatMul', ['c', 'w'], 'd'),
          node('Transpose', ['b'], 't', [ints('perm', [1, 0])]),
          node('Add', ['d', 't'], 'y'),
        ],
        ...[weight('v'), weight('w'), weight('fixed', [4, 2])],
      ),
    );
    expect(nodes.slice(2, 6)).toEqual([
      'a, b_float16 = Split(p) {num_outputs: 2}',
      'b = Cast(b_float16) {to: 1}',
      'c = Concat(a, fixed_float16) {axis: 1}',
      'd_float16 = MatMul(c, w_float16)',
    ]);
    expect(nodes).toContain('t = Transpose(b) {perm: [1, 0]}');
  });
});
