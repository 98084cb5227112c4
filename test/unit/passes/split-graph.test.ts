import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Boundary, blockBoundaries } from '../../../src/analyze/boundaries.js';
import { isConstant } from '../../../src/analyze/constants.js';
import { type Graph, type Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { subgraphs, valuesRead } from '../../../src/ir/traverse.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { type Segment, splitGraph } from '../../../src/passes/split-graph.js';
import { FULL_SHAPE, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { graph, model, node, value } from '../helpers/graphs.js';

const cutsAt = (...positions: number[]): Boundary[] => positions.map((position) => ({ position, crossing: [] }));

const names = (values: readonly { readonly name: string }[]): string[] => values.map(({ name }) => name);

/** A value as a number that stands for how it was computed. */
class Meanings {
  readonly #numbers = new Map<string, number>();

  of(text: string): number {
    const known = this.#numbers.get(text) ?? this.#numbers.size;
    this.#numbers.set(text, known);
    return known;
  }

  /** Computes nodes one after the other. @throws where one reads what is not in scope */
  run(nodes: readonly Node[], scope: Map<string, number>): void {
    for (const each of nodes) {
      const inputs = [...valuesRead(each)].map((name) => {
        const meaning = scope.get(name);
        if (meaning === undefined) throw new Error(`${each.name} reads ${name}, which is not there`);
        return `${name}=${meaning}`;
      });
      for (const [i, name] of each.outputs.entries()) {
        if (name !== '') scope.set(name, this.of(`${each.name}/${i}(${inputs.join()})`));
      }
    }
  }
}

/** Holds segments against the whole: each is run with nothing but what it declares, and gives what it declares. */
function expectSame(whole: Model, segments: readonly Segment[]): void {
  const meanings = new Meanings();
  const { graph: of } = whole;
  const outer = (tensors: Iterable<string>): [string, number][] =>
    [...tensors].map((name) => [name, meanings.of(`given ${name}`)]);
  const inputs = of.inputs.map(({ name }) => name);
  const expected = new Map(outer([...inputs, ...of.initializers.keys()]));
  meanings.run(of.nodes, expected);

  const handed = new Map<string, number>();
  const made: string[] = [];
  for (const { graph: part, feeds, takes, gives, outputs } of segments) {
    expect(names(part.inputs)).toEqual([...feeds, ...takes]);
    expect(new Set(names(part.outputs))).toEqual(new Set([...outputs, ...gives]));
    expect(new Set(names(part.outputs)).size).toBe(part.outputs.length);
    const scope = new Map(outer([...feeds, ...part.initializers.keys()]));
    for (const name of takes) {
      expect(handed.has(name), `${name} is taken before it was given`).toBe(true);
      scope.set(name, handed.get(name) as number);
    }
    meanings.run(part.nodes, scope);
    for (const name of names(part.outputs)) expect(scope.get(name), name).toBe(expected.get(name));
    for (const name of gives) handed.set(name, scope.get(name) as number);
    made.push(...outputs);
  }
  expect(made.toSorted()).toEqual(names(of.outputs).toSorted());
}

/** Holds segments against the cuts: whose nodes they are, and that nothing is there in vain. */
function expectTidy({ graph: of }: Model, cuts: readonly Boundary[], segments: readonly Segment[]): void {
  expect(segments).toHaveLength(cuts.length + 1);
  expect(segments.flatMap((segment, i) => own(segment, of, cuts, i))).toEqual(of.nodes);
  const inputs = new Set(names(of.inputs));
  const types = new Map([...of.inputs, ...of.valueInfo, ...of.outputs].map((each) => [each.name, each]));
  for (const [i, { graph: part, feeds, takes, gives, outputs }] of segments.entries()) {
    const read = new Set(part.nodes.flatMap((each) => [...valuesRead(each)]));
    const later = new Set(segments.slice(i + 1).flatMap((segment) => segment.takes));
    expect(names([...part.initializers.values()]).filter((name) => !read.has(name))).toEqual([]);
    expect([...feeds, ...takes].filter((name) => !read.has(name))).toEqual([]);
    expect(feeds.filter((name) => !inputs.has(name))).toEqual([]);
    expect(gives.filter((name) => !later.has(name))).toEqual([]);
    for (const each of [...part.inputs, ...part.outputs]) expect(each).toBe(types.get(each.name));
    const repeated = part.nodes.slice(0, part.nodes.length - countOf(of, cuts, i));
    expect(repeated.every((each) => isConstant(each) && each.outputs.some((name) => read.has(name)))).toBe(true);
    expect(outputs).toEqual(names(of.outputs).filter((name) => outputs.includes(name)));
  }
}

function countOf({ nodes }: Graph, cuts: readonly Boundary[], i: number): number {
  return (cuts[i]?.position ?? nodes.length) - (cuts[i - 1]?.position ?? 0);
}

/** Nodes of a segment without the constants it repeats, which stand before them. */
function own({ graph: part }: Segment, of: Graph, cuts: readonly Boundary[], i: number): Node[] {
  return part.nodes.slice(part.nodes.length - countOf(of, cuts, i));
}

function expectSplit(whole: Model, cuts: readonly Boundary[]): Segment[] {
  const segments = splitGraph(whole, cuts);
  expectTidy(whole, cuts, segments);
  expectSame(whole, segments);
  return segments;
}

const constant = (output: string): Node =>
  node('Constant', [], output, [{ name: 'value_float', type: 'float', value: 2 }]);

/** A model in which every value that is made has a type. */
function typed(parts: Parameters<typeof model>[0]): Model {
  const made = model(parts);
  made.graph.valueInfo = parts.nodes.flatMap(({ outputs }) => outputs.filter((name) => name !== '').map(value));
  // As an exporter writes it, the type of an output is stated with the output.
  made.graph.outputs = made.graph.outputs.map(
    ({ name }) => made.graph.valueInfo.find((each) => each.name === name) ?? value(name),
  );
  return made;
}

describe.each([
  ['the micro transformer', path.join(MICRO_PIPELINE, 'transformer', 'model.onnx')],
  ['two blocks of the 5B', path.join(FULL_SHAPE, '2-blocks-fp32', 'model.onnx.gz')],
  ['the 5B', path.join(FULL_SHAPE, '5b-fp32', 'model.onnx.gz')],
])('splitGraph of %s', (_, file) => {
  const bytes = readFileSync(file);
  const whole = decodeModel(file.endsWith('.gz') ? gunzipSync(bytes) : bytes);
  const cuts = blockBoundaries(whole.graph);

  it('makes segments of all blocks that compute what the whole computes', () => {
    const segments = expectSplit(whole, cuts);
    for (const [i, { takes }] of segments.entries()) {
      const crossing = cuts[i - 1]?.crossing ?? [];
      expect(takes.filter((name) => !crossing.includes(name))).toEqual([]);
    }
    const held = segments.flatMap(({ graph: part }) => [...part.initializers.keys()]);
    const large = held.filter((name) => (whole.graph.initializers.get(name) as Tensor).byteLength > 1024);
    expect(new Set(large).size).toBe(large.length);
  });

  it('makes two segments of any one cut', () => {
    for (const cut of [cuts[0], cuts[Math.floor(cuts.length / 2)], cuts.at(-1)] as Boundary[]) {
      expectSplit(whole, [cut]);
    }
  });
});

describe('splitGraph', () => {
  const w = (name: string): Tensor => Tensor.float32(name, [1], [1]);

  it('gives each segment the inputs, weights and outputs that it has to do with', () => {
    const whole = typed({
      nodes: [
        node('Add', ['x', 'w0'], 'a'),
        node('Mul', ['a', 'w1'], 'b'),
        node('Sub', ['b', 'w0'], 'c'),
        node('Div', ['c', 'z'], 'y'),
      ],
      initializers: ['w0', 'w1', 'unused'].map(w),
      inputs: ['x', 'z'],
      outputs: ['y', 'a'],
    });
    const segments = expectSplit(whole, cutsAt(1, 3));
    const summary = segments.map(({ graph: part, ...rest }) => ({ ...rest, weights: [...part.initializers.keys()] }));
    expect(summary).toEqual([
      { feeds: ['x'], takes: [], gives: ['a'], outputs: ['a'], weights: ['w0'] },
      { feeds: [], takes: ['a'], gives: ['c'], outputs: [], weights: ['w0', 'w1'] },
      { feeds: ['z'], takes: ['c'], gives: [], outputs: ['y'], weights: [] },
    ]);
    expect(segments.map(({ graph: part }) => part.name)).toEqual(['test_0', 'test_1', 'test_2']);
    expect(segments.map(({ graph: part }) => names(part.valueInfo))).toEqual([['a'], ['b', 'c'], ['y']]);
  });

  it('makes one segment of a graph that is not cut', () => {
    const whole = typed({ nodes: [node('Neg', ['x'], 'y')], inputs: ['x'], outputs: ['y'] });
    const [segment] = expectSplit(whole, []);
    expect(segment).toMatchObject({ feeds: ['x'], takes: [], gives: [], outputs: ['y'] });
  });

  it('hands a value over all segments between its maker and its reader, and no others', () => {
    const whole = typed({
      nodes: [
        node('Neg', ['x'], 'mask'),
        node('Abs', ['x'], 'a'),
        node('Exp', ['a'], 'b'),
        node('Add', ['b', 'mask'], 'y'),
      ],
      inputs: ['x'],
      outputs: ['y'],
    });
    const segments = expectSplit(whole, cutsAt(1, 2, 3));
    expect(segments.map(({ takes, gives }) => [takes, gives])).toEqual([
      [[], ['mask']],
      [[], ['a']],
      [['a'], ['b']],
      [['b', 'mask'], []],
    ]);
  });

  it('repeats constants where they are read, instead of handing them over', () => {
    const whole = typed({
      nodes: [constant('two'), node('Mul', ['x', 'two'], 'a'), node('Add', ['a', 'two'], 'b'), node('Neg', ['b'], 'y')],
      inputs: ['x'],
      outputs: ['y'],
    });
    const segments = expectSplit(whole, cutsAt(2, 3));
    expect(segments.map(({ graph: part }) => names(part.nodes))).toEqual([['two', 'a'], ['two', 'b'], ['y']]);
    expect(segments.flatMap(({ takes, gives }) => [...takes, ...gives])).toEqual(['a', 'a', 'b', 'b']);
  });

  it('makes a constant that is an output in its own segment only', () => {
    const whole = typed({
      nodes: [constant('two'), node('Neg', ['x'], 'a'), node('Mul', ['a', 'two'], 'y')],
      inputs: ['x'],
      outputs: ['two', 'y'],
    });
    const segments = expectSplit(whole, cutsAt(1));
    expect(segments.map(({ outputs }) => outputs)).toEqual([['two'], ['y']]);
  });

  it('counts what subgraphs capture as read: values, inputs, weights and constants', () => {
    const inner = graph({ nodes: [node('Add', ['early', 'two'], 'inner_a')], outputs: ['inner_a'] });
    const nested = graph({
      nodes: [node('If', ['flag'], 'inner_b', [{ name: 'then_branch', type: 'graph', value: inner }])],
      outputs: ['inner_b'],
    });
    const other = graph({ nodes: [node('Mul', ['z', 'w'], 'inner_c')], outputs: ['inner_c'] });
    const whole = typed({
      nodes: [
        constant('two'),
        node('Neg', ['x'], 'early'),
        node('Abs', ['x'], 'flag'),
        node('Exp', ['flag'], 'condition'),
        node('If', ['condition'], 'y', [
          { name: 'then_branch', type: 'graph', value: nested },
          { name: 'else_branch', type: 'graph', value: other },
        ]),
      ],
      initializers: [w('w')],
      inputs: ['x', 'z'],
      outputs: ['y'],
    });
    expect(subgraphs(whole.graph.nodes[4] as Node)).toHaveLength(2);
    const segments = expectSplit(whole, cutsAt(2, 4));
    expect(segments[2]).toMatchObject({ feeds: ['z'], takes: ['condition', 'flag', 'early'] });
    expect([...(segments[2]?.graph.initializers.keys() ?? [])]).toEqual(['w']);
    expect(names(segments[2]?.graph.nodes ?? [])).toEqual(['two', 'y']);
    expect(segments[0]?.gives).toEqual(['early']);
  });

  it('takes a local name of a subgraph for no value of the graph', () => {
    const branch = graph({
      nodes: [node('Neg', ['local'], 'inside')],
      initializers: [w('local')],
      outputs: ['inside'],
    });
    const whole = typed({
      nodes: [node('Abs', ['x'], 'a'), node('If', ['a'], 'y', [{ name: 'then_branch', type: 'graph', value: branch }])],
      inputs: ['x'],
      outputs: ['y'],
    });
    const [, last] = expectSplit(whole, cutsAt(1));
    expect(last).toMatchObject({ feeds: [], takes: ['a'] });
  });

  it('feeds no input that has a default, which goes with the weights', () => {
    const whole = typed({
      nodes: [node('Neg', ['x'], 'a'), node('Add', ['a', 'bias'], 'y')],
      initializers: [w('bias')],
      inputs: ['x', 'bias'],
      outputs: ['y'],
    });
    const [, last] = expectSplit(whole, cutsAt(1));
    expect(last?.feeds).toEqual([]);
    expect([...(last?.graph.initializers.keys() ?? [])]).toEqual(['bias']);
  });

  it('passes over inputs and outputs that a node leaves out', () => {
    const whole = typed({
      nodes: [
        new Node({ opType: 'Dropout', name: 'drop', inputs: ['x', '', ''], outputs: ['a', ''] }),
        new Node({ opType: 'Clip', name: 'clip', inputs: ['a', ''], outputs: ['y', ''] }),
      ],
      inputs: ['x'],
      outputs: ['y'],
    });
    const segments = expectSplit(whole, cutsAt(1));
    expect(segments.map(({ takes, gives }) => [takes, gives])).toEqual([
      [[], ['a']],
      [['a'], []],
    ]);
  });

  it('leaves the model as it was', () => {
    const whole = typed({
      nodes: [constant('two'), node('Mul', ['x', 'two'], 'a'), node('Mul', ['a', 'two'], 'y')],
      inputs: ['x'],
      outputs: ['y'],
    });
    const before = { ...whole.graph, nodes: [...whole.graph.nodes], outputs: [...whole.graph.outputs] };
    splitGraph(whole, cutsAt(1, 2));
    expect({ ...whole.graph }).toEqual(before);
  });

  it('computes the same for any graph, cut anywhere', () => {
    const shape = fc.record({
      nodes: fc.array(
        fc.record({
          constant: fc.boolean(),
          reads: fc.array(fc.nat(40), { maxLength: 3 }),
          captures: fc.array(fc.nat(40), { maxLength: 2 }),
          outputs: fc.integer({ min: 1, max: 2 }),
        }),
        { minLength: 1, maxLength: 14 },
      ),
      outputs: fc.array(fc.nat(40), { minLength: 1, maxLength: 4 }),
      cuts: fc.array(fc.nat(20), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(shape, ({ nodes: drawn, outputs: picked, cuts }) => {
        const known = ['x', 'z', 'w0', 'w1'];
        const made: string[] = [];
        const pick = (i: number, from: readonly string[]): string => from[i % from.length] as string;
        const nodes = drawn.map(({ constant: plain, reads, captures, outputs: count }, n) => {
          const outputs = Array.from({ length: count }, (_, i) => `v${n}_${i}`);
          const inner = graph({ nodes: captures.map((i, k) => node('Neg', [pick(i, known)], `inner${n}_${k}`)) });
          const each = plain
            ? new Node({ opType: 'Constant', name: `n${n}`, inputs: [], outputs: outputs.slice(0, 1) })
            : new Node({
                opType: 'Op',
                name: `n${n}`,
                inputs: reads.map((i) => pick(i, known)),
                outputs,
                attributes: captures.length > 0 ? [{ name: 'body', type: 'graph', value: inner }] : [],
              });
          known.push(...each.outputs);
          made.push(...each.outputs);
          return each;
        });
        const whole = typed({
          nodes,
          initializers: [w('w0'), w('w1')],
          inputs: ['x', 'z'],
          outputs: [...new Set(picked.map((i) => pick(i, made)))],
        });
        const positions = cuts.map((i) => i % (nodes.length + 1)).sort((a, b) => a - b);
        expectSplit(whole, cutsAt(...positions));
      }),
      { numRuns: 300 },
    );
  });
});
