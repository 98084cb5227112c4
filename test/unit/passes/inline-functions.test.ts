import { describe, expect, it, vi } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { subgraphs, valuesRead } from '../../../src/ir/traverse.js';
import { MAX_NODES } from '../../../src/limits.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { AttributeType, decodeMessage, encodeMessage, type Message } from '../../../src/onnx/schema.js';
import { inlineFunctions } from '../../../src/passes/inline-functions.js';
import { expectRefusal, thrownBy } from '../helpers/errors.js';
import { graphBytes, modelBytes } from '../onnx/wire.js';

// A million nodes take seconds to make.
vi.mock('../../../src/limits.js', async (original) => ({ ...(await original<object>()), MAX_NODES: 20_000 }));

/** The domain of all functions here. */
const LOCAL = 'local';
const OPSETS = [
  { domain: '', version: 17 },
  { domain: LOCAL, version: 1 },
];

/** A node; of several outputs, or none, with `output` among its fields. */
function op(opType: string, input: string[], output: string | string[], fields: Message = {}): Uint8Array {
  return encodeMessage('NodeProto', { opType, input, output: [output].flat(), ...fields });
}

/** A node that calls a function. */
function call(name: string, input: string[], output: string | string[], fields: Message = {}): Uint8Array {
  return op(name, input, output, { domain: LOCAL, ...fields });
}

const attribute = (fields: Message): Uint8Array => encodeMessage('AttributeProto', fields);
const intOf = (name: string, i: number): Uint8Array => attribute({ name, i, type: AttributeType.int });
const refers = (name: string, refAttrName: string, type: number = AttributeType.int): Uint8Array =>
  attribute({ name, refAttrName, type });

function define(name: string, input: string[], output: string[], node: Uint8Array[], fields: Message = {}): Uint8Array {
  return encodeMessage('FunctionProto', { name, domain: LOCAL, input, output, node, opsetImport: OPSETS, ...fields });
}

const value = (name: string): Uint8Array =>
  encodeMessage('ValueInfoProto', { name, type: { tensorType: { elemType: 1 } } });

const weight = (name: string): Uint8Array =>
  encodeMessage('TensorProto', { name, dataType: 1, dims: [2, 2], floatData: [1, 2, 3, 4] });

/** A model with the weights w and v, the input x and the output y. */
function bytesOf(functions: Uint8Array[], node: Uint8Array[], fields: Message = {}): Uint8Array {
  const graph = graphBytes({
    node,
    initializer: [weight('w'), weight('v')],
    input: [value('x')],
    output: [value('y')],
  });
  return modelBytes({ graph, functions, opsetImport: OPSETS, ...fields });
}

/** That model after the pass, written and read again. */
function inlined(functions: Uint8Array[], nodes: Uint8Array[]): Model {
  const model = decodeModel(bytesOf(functions, nodes));
  inlineFunctions.run(model);
  return decodeModel(encodeModel(model));
}

/** Operators with what they read and make. */
const lines = (nodes: readonly Node[]): string[] =>
  nodes.map(({ opType, inputs, outputs }) => `${outputs.join(' ')} = ${opType} ${inputs.join(' ')}`);

/** Expects that everything read is made before, once, and that the output is among it. */
function expectValid({ graph }: Model): void {
  const known = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys()]);
  for (const node of graph.nodes) {
    expect([...valuesRead(node)].filter((name) => !known.has(name))).toEqual([]);
    for (const name of node.outputs.filter((each) => each !== '')) {
      expect(known.has(name)).toBe(false);
      known.add(name);
    }
  }
  expect(graph.outputs.filter(({ name }) => !known.has(name))).toEqual([]);
}

/** linear(a, b) = relu(a b) */
const LINEAR = define(
  'linear',
  ['a', 'b'],
  ['r'],
  [op('MatMul', ['a', 'b'], 'p', { name: 'product' }), op('Relu', ['p'], 'r')],
);

describe('inline-functions', () => {
  it('puts the nodes of a function in the place of its call', () => {
    const made = inlined(
      [LINEAR],
      [op('Neg', ['x'], 'n'), call('linear', ['n', 'w'], 'm', { name: 'layer' }), op('Neg', ['m'], 'y')],
    );
    expect(lines(made.graph.nodes)).toEqual(['n = Neg x', 'layer/p = MatMul n w', 'm = Relu layer/p', 'y = Neg m']);
    expect(made.graph.nodes.map(({ name, domain }) => [name, domain])).toEqual([
      ['', ''],
      ['layer/product', ''],
      ['', ''],
      ['', ''],
    ]);
    expect(findLinears(made.graph).map(({ weight: { name } }) => name)).toEqual(['w']);
    expectValid(made);
  });

  it('says what it did, and does nothing the second time', () => {
    const model = decodeModel(bytesOf([LINEAR], [call('linear', ['x', 'w'], 'm'), call('linear', ['m', 'v'], 'y')]));
    expect(inlineFunctions.run(model)).toBe('inlined 2 calls of 1 function');
    const once = encodeModel(model);
    expect(inlineFunctions.run(model)).toBeUndefined();
    expect(Buffer.from(encodeModel(model))).toEqual(Buffer.from(once));
  });

  it('keeps names of several calls apart, and from those that are there', () => {
    const made = inlined(
      [LINEAR],
      [
        op('Neg', ['x'], 'm/p'),
        call('linear', ['m/p', 'w'], 'm'),
        call('linear', ['m', 'w'], 'k', { name: 'same' }),
        call('linear', ['k', 'w'], 'l', { name: 'same' }),
        op('Neg', ['l'], 'y'),
      ],
    );
    expectValid(made);
    expect(lines(made.graph.nodes)).toEqual([
      'm/p = Neg x',
      'm/p_1 = MatMul m/p w',
      'm = Relu m/p_1',
      'same/p = MatMul m w',
      'k = Relu same/p',
      'same/p_1 = MatMul k w',
      'l = Relu same/p_1',
      'y = Neg l',
    ]);
  });

  it('inlines functions that others call, whatever their order', () => {
    const outer = define(
      'outer',
      ['a'],
      ['o'],
      [
        op('Constant', [], 'w', { attribute: [attribute({ name: 'value', t: weight(''), type: 4 })] }),
        call('linear', ['a', 'w'], 'h', { name: 'first' }),
        call('linear', ['h', 'w'], 'o', { name: 'second' }),
      ],
    );
    for (const functions of [
      [outer, LINEAR],
      [LINEAR, outer],
    ]) {
      const made = inlined(functions, [call('outer', ['x'], 'y', { name: 'all' })]);
      expect(lines(made.graph.nodes)).toEqual([
        'all/w = Constant ',
        'all/first/p = MatMul x all/w',
        'all/h = Relu all/first/p',
        'all/second/p = MatMul all/h all/w',
        'y = Relu all/second/p',
      ]);
      expect(findLinears(made.graph)).toHaveLength(2);
      expect(made.functions).toEqual([]);
      expectValid(made);
    }
  });

  it('tells overloads of a function apart', () => {
    const other = define('linear', ['a', 'b'], ['r'], [op('Gemm', ['a', 'b'], 'r')], { overload: 'gemm' });
    const made = inlined(
      [LINEAR, other],
      [call('linear', ['x', 'w'], 'm'), call('linear', ['m', 'v'], 'y', { overload: 'gemm' })],
    );
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['MatMul', 'Relu', 'Gemm']);
  });

  it('gives nodes without metadata that of their call', () => {
    const scoped = define(
      'scoped',
      ['a', 'b'],
      ['r'],
      [
        op('MatMul', ['a', 'b'], 'p', { metadataProps: [{ key: 'namespace', value: 'inner' }] }),
        op('Relu', ['p'], 'r'),
      ],
    );
    const metadataProps = [{ key: 'namespace', value: 'blocks.0.ffn.net.2' }];
    const made = inlined([scoped], [call('scoped', ['x', 'w'], 'y', { metadataProps })]);
    expect(made.graph.nodes.map(({ metadata }) => metadata.get('namespace'))).toEqual(['inner', 'blocks.0.ffn.net.2']);
  });
});

describe('inline-functions resolves attributes', () => {
  const gemm = define(
    'gemm',
    ['a', 'b'],
    ['r'],
    [op('Gemm', ['a', 'b'], 'r', { attribute: [refers('transB', 'flip'), intOf('transA', 0)] })],
    { attributeProto: [intOf('flip', 1)] },
  );
  const bare = define(
    'bare',
    ['a', 'b'],
    ['r'],
    [op('Gemm', ['a', 'b'], 'r', { attribute: [refers('transB', 'flip')] })],
    {
      attribute: ['flip'],
    },
  );

  it.each<[string, Uint8Array, Uint8Array[], Message[]]>([
    [
      'of the call',
      gemm,
      [intOf('flip', 0)],
      [
        { name: 'transB', i: 0 },
        { name: 'transA', i: 0 },
      ],
    ],
    [
      'of a default',
      gemm,
      [],
      [
        { name: 'transB', i: 1 },
        { name: 'transA', i: 0 },
      ],
    ],
    ['of the call, without a default', bare, [intOf('flip', 1)], [{ name: 'transB', i: 1 }]],
    ['that nobody gives', bare, [intOf('other', 1)], []],
  ])('%s', (_, definition, given, expected) => {
    const name = definition === gemm ? 'gemm' : 'bare';
    const made = inlined([definition], [call(name, ['x', 'w'], 'y', { attribute: given })]);
    const [product] = made.graph.nodes;
    expect(product?.attributes).toEqual(expected.map((each) => ({ name: each.name, type: 'int', value: each.i })));
  });

  it('through a function in between', () => {
    const outer = define(
      'outer',
      ['a', 'b'],
      ['r'],
      [call('gemm', ['a', 'b'], 'r', { attribute: [refers('flip', 'turned')] })],
      {
        attributeProto: [intOf('turned', 0)],
      },
    );
    const made = inlined(
      [gemm, outer],
      [call('outer', ['x', 'w'], 'm'), call('outer', ['m', 'w'], 'y', { attribute: [intOf('turned', 1)] })],
    );
    expect(made.graph.nodes.map((each) => each.intAttribute('transB', -1))).toEqual([0, 1]);
  });

  it('of every type', () => {
    const kinds = {
      float: { f: 0.5 },
      int: { i: -3 },
      string: { s: new TextEncoder().encode('text') },
      tensor: { t: weight('t') },
      floats: { floats: [1, 2.5] },
      ints: { ints: [1, -2] },
      strings: { strings: [new TextEncoder().encode('a')] },
      graph: { g: graphBytes() },
      graphs: { graphs: [graphBytes()] },
    };
    const types = Object.keys(kinds) as (keyof typeof kinds)[];
    const all = define(
      'all',
      ['a', 'b'],
      ['r'],
      [
        op('MatMul', ['a', 'b'], 'm'),
        op('Custom', ['m'], 'r', { attribute: types.map((type) => refers(`${type}s`, type, AttributeType[type])) }),
      ],
    );
    const given = types.map((type) => attribute({ name: type, ...kinds[type], type: AttributeType[type] }));
    const made = inlined([all], [call('all', ['x', 'w'], 'y', { attribute: given })]);
    const custom = made.graph.nodes.at(-1);
    expect(custom?.attributes.map(({ name, type }) => [name, type])).toEqual(types.map((type) => [`${type}s`, type]));
    const same = decodeModel(bytesOf([], [op('Custom', [], 'y', { attribute: given })])).graph.nodes[0];
    for (const [i, { name: _, ...rest }] of (same?.attributes ?? []).entries()) {
      expect(custom?.attributes[i]).toMatchObject(rest);
    }
  });

  it('and keeps the others, of kinds it does not know too', () => {
    const opaque = attribute({ name: 'sparse', type: 11, docString: 'kept' });
    const body = [op('MatMul', ['a', 'b'], 'm'), op('Custom', ['m'], 'r', { attribute: [opaque] })];
    const made = decodeModel(bytesOf([define('f', ['a', 'b'], ['r'], body)], [call('f', ['x', 'w'], 'y')]));
    inlineFunctions.run(made);
    const { node } = decodeMessage('GraphProto', decodeMessage('ModelProto', encodeModel(made)).graph);
    expect(Buffer.from(decodeMessage('NodeProto', node[1]).attribute[0])).toEqual(Buffer.from(opaque));
  });
});

describe('inline-functions with inputs and outputs that are left out', () => {
  const optional = define(
    'optional',
    ['a', 'b', 'bias'],
    ['r', 'sum'],
    [op('Gemm', ['a', 'b', 'bias'], 'r'), op('ReduceSum', ['r'], 'sum')],
  );

  it.each<[string, string[]]>([
    ['by name', ['x', 'w', '']],
    ['at the end', ['x', 'w']],
  ])('leaves inputs out inside: %s', (_, inputs) => {
    const made = inlined([optional], [call('optional', inputs, ['y', 's'])]);
    expect(lines(made.graph.nodes)).toEqual(['y = Gemm x w ', 's = ReduceSum y']);
    expectValid(made);
  });

  it.each<[string, string[], string[]]>([
    ['the last', ['y'], ['y = Gemm x w v', 'n/sum = ReduceSum y']],
    ['the last by name', ['y', ''], ['y = Gemm x w v', 'n/sum = ReduceSum y']],
    ['the first', ['', 'y'], ['n/r = Gemm x w v', 'y = ReduceSum n/r']],
  ])('gives outputs names of their own: %s', (_, outputs, expected) => {
    const made = inlined([optional], [call('optional', ['x', 'w', 'v'], outputs, { name: 'n' })]);
    expect(lines(made.graph.nodes)).toEqual(expected);
    expectValid(made);
  });

  it('passes on an output that is an input', () => {
    const through = define('through', ['a', 'b'], ['a', 'r'], [op('MatMul', ['a', 'b'], 'r')]);
    const made = inlined([through], [call('through', ['x', 'w'], ['same', 'm']), op('Add', ['same', 'm'], 'y')]);
    expect(lines(made.graph.nodes)).toEqual(['m = MatMul x w', 'same = Identity x', 'y = Add same m']);
    expectValid(made);
    const unused = inlined([through], [call('through', ['x', 'w'], ['', 'y'])]);
    expect(lines(unused.graph.nodes)).toEqual(['y = MatMul x w']);
  });

  it('passes on one value as two outputs', () => {
    const twice = define('twice', ['a', 'b'], ['r', 'r'], [op('MatMul', ['a', 'b'], 'r')]);
    const made = inlined([twice], [call('twice', ['x', 'w'], ['one', 'two']), op('Add', ['one', 'two'], 'y')]);
    expectValid(made);
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['MatMul', 'Identity', 'Add']);
  });
});

describe('inline-functions and subgraphs', () => {
  const branch = (node: Uint8Array[], output: string, fields: Message = {}): Uint8Array =>
    graphBytes({ node, output: [value(output)], ...fields });
  const choose = (then: Uint8Array, otherwise: Uint8Array, condition: string, output: string): Uint8Array =>
    op('If', [condition], output, {
      attribute: [
        attribute({ name: 'then_branch', g: then, type: AttributeType.graph }),
        attribute({ name: 'else_branch', g: otherwise, type: AttributeType.graph }),
      ],
    });

  it('renames in a branch what is the function’s and what is the branch’s', () => {
    const chosen = define(
      'chosen',
      ['a', 'b', 'c'],
      ['r'],
      [
        op('MatMul', ['a', 'b'], 'p'),
        choose(
          branch([op('MatMul', ['p', 'own'], 't')], 't', { initializer: [weight('own')], valueInfo: [value('t')] }),
          branch([op('Neg', ['p'], 'n'), op('MatMul', ['n', 'b'], 'e')], 'e'),
          'c',
          'r',
        ),
      ],
    );
    const made = inlined(
      [chosen],
      [call('chosen', ['x', 'w', 'x'], 'm', { name: '1' }), call('chosen', ['m', 'v', 'x'], 'y', { name: '2' })],
    );
    expectValid(made);
    const branches = made.graph.nodes.flatMap(subgraphs);
    expect(branches.map(({ nodes }) => lines(nodes))).toEqual([
      ['1/t = MatMul 1/p 1/own'],
      ['1/n = Neg 1/p', '1/e = MatMul 1/n w'],
      ['2/t = MatMul 2/p 2/own'],
      ['2/n = Neg 2/p', '2/e = MatMul 2/n v'],
    ]);
    expect(branches.map(({ outputs }) => outputs.map(({ name }) => name))).toEqual([
      ['1/t'],
      ['1/e'],
      ['2/t'],
      ['2/e'],
    ]);
    expect([...(branches[0]?.initializers.keys() ?? [])]).toEqual(['1/own']);
    expect(branches[0]?.valueInfo.map(({ name }) => name)).toEqual(['1/t']);
  });

  it('renames the inputs of a body', () => {
    const body = graphBytes({
      node: [op('MatMul', ['state', 'b'], 'next')],
      input: [value('i'), value('go'), value('state')],
      output: [value('go'), value('next')],
    });
    const looped = define(
      'looped',
      ['n', 'a', 'b'],
      ['r'],
      [
        op('Loop', ['n', '', 'a'], 'r', {
          attribute: [attribute({ name: 'body', g: body, type: AttributeType.graph })],
        }),
      ],
    );
    const made = inlined([looped], [call('looped', ['x', 'x', 'w'], 'y', { name: 'l' })]);
    const [inner] = made.graph.nodes.flatMap(subgraphs);
    expect(inner?.inputs.map(({ name }) => name)).toEqual(['l/i', 'l/go', 'l/state']);
    expect(lines(inner?.nodes ?? [])).toEqual(['l/next = MatMul l/state w']);
    expectValid(made);
  });

  it('inlines calls in the branches of the graph and of functions', () => {
    const nested = define(
      'nested',
      ['a', 'b', 'c'],
      ['r'],
      [choose(branch([call('linear', ['a', 'b'], 't')], 't'), branch([op('Neg', ['a'], 'e')], 'e'), 'c', 'r')],
    );
    const nodes = [
      choose(
        branch([call('nested', ['x', 'w', 'x'], 't')], 't'),
        branch([call('linear', ['x', 'w'], 'e')], 'e'),
        'x',
        'y',
      ),
    ];
    const made = inlined([nested, LINEAR], nodes);
    const deep = (each: readonly Node[]): Node[] =>
      each.flatMap((node) => [node, ...subgraphs(node).flatMap((inner) => deep(inner.nodes))]);
    expect(deep(made.graph.nodes).map(({ opType }) => opType)).toEqual([
      ...['If', 'If', 'MatMul', 'Relu', 'Neg', 'MatMul', 'Relu'],
    ]);
    expectValid(made);
  });

  it('does not change the function for its next call', () => {
    const nested = define(
      'nested',
      ['a', 'b', 'c'],
      ['r'],
      [choose(branch([call('linear', ['a', 'b'], 't')], 't'), branch([op('Neg', ['a'], 'e')], 'e'), 'c', 'r')],
    );
    const made = inlined(
      [nested, LINEAR],
      [call('nested', ['x', 'w', 'x'], 'm', { name: '1' }), call('nested', ['m', 'v', 'x'], 'y', { name: '2' })],
    );
    expectValid(made);
    expect(made.graph.nodes.flatMap(subgraphs).map(({ nodes }) => nodes[0]?.inputs)).toEqual([
      ['x', 'w'],
      ['x'],
      ['m', 'v'],
      ['m'],
    ]);
  });
});

describe('inline-functions refuses', () => {
  const run = (functions: Uint8Array[], nodes: Uint8Array[], fields: Message = {}): (() => unknown) => {
    const bytes = bytesOf(functions, nodes, fields);
    // Some are refused where they are read.
    return () => inlineFunctions.run(decodeModel(bytes));
  };
  const chained = (name: string, calls: string[], more: Uint8Array[] = []): Uint8Array =>
    define(name, ['a'], ['r'], [...calls.map((callee, i) => call(callee, ['a'], i === 0 ? 'r' : `r${i}`)), ...more]);
  const PRODUCT = op('MatMul', ['a', 'a'], 'm');

  it('a function that calls itself', () => {
    expectRefusal(run([chained('f', ['f'], [PRODUCT])], [call('f', ['x'], 'y')]), 'MODEL_INVALID');
    expectRefusal(run([chained('f', ['f', 'f'], [PRODUCT])], [call('f', ['x'], 'y')]), 'MODEL_INVALID');
  });

  it('functions that call each other', () => {
    const functions = [chained('f', ['g'], [PRODUCT]), chained('g', ['f'])];
    expectRefusal(run(functions, [call('f', ['x'], 'y')]), 'MODEL_INVALID');
  });

  it('a function that calls itself in a branch', () => {
    const then = graphBytes({ node: [call('f', ['a'], 't')], output: [value('t')] });
    const branching = attribute({ name: 'then_branch', g: then, type: AttributeType.graph });
    const f = define('f', ['a'], ['r'], [PRODUCT, op('If', ['a'], 'r', { attribute: [branching] })]);
    expectRefusal(run([f], [call('f', ['x'], 'y')]), 'MODEL_INVALID');
  });

  /** f0 calls f1 so many times, and so on to the last, which holds the nodes given. */
  const fan = (depth: number, times: number, last: Uint8Array[]): Uint8Array[] => [
    ...Array.from({ length: depth }, (_, i) => chained(`f${i}`, Array(times).fill(`f${i + 1}`))),
    define(`f${depth}`, ['a'], ['r'], [op('MatMul', ['a', 'a'], 'r'), ...last]),
  ];

  it('calls nested too deep, whoever calls them', () => {
    const depths = [8, 15, 16, 40].map((depth) => {
      try {
        run(fan(depth, 1, []), [call('f0', ['x'], 'y')])();
        return true;
      } catch (error) {
        expectRefusal(() => {
          throw error;
        }, 'MODEL_INVALID');
        return false;
      }
    });
    expect(depths).toEqual([true, true, false, false]);
  });

  it('functions that make more nodes than a graph may have', () => {
    const refusal = thrownBy(run(fan(12, 4, []), [call('f0', ['x'], 'y')]));
    expect(refusal).toMatchObject({ code: 'MODEL_INVALID', message: expect.stringContaining(String(MAX_NODES)) });
  });

  it('functions that make them in subgraphs', () => {
    const nodes = Array.from({ length: 600 }, (_, i) => op('Neg', ['a'], `n${i}`));
    const then = attribute({ name: 'then_branch', g: graphBytes({ node: nodes }), type: AttributeType.graph });
    const functions = fan(6, 2, [op('If', ['a'], 'chosen', { attribute: [then] })]);
    expectRefusal(run(functions, [call('f0', ['x'], 'y')]), 'MODEL_INVALID');
  });

  it.each<[string, Message[], Message[]]>([
    ['of ONNX', [{ domain: '', version: 18 }], OPSETS],
    ['of ONNX by its other name', [{ domain: 'ai.onnx', version: 18 }], OPSETS],
    ['of ONNX by its other name in the model', [{ version: 18 }], [{ domain: 'ai.onnx', version: 17 }]],
    ['of another domain', [{ domain: 'com.x', version: 2 }], [...OPSETS, { domain: 'com.x', version: 1 }]],
  ])('a function in another opset %s', (_, own, models) => {
    const f = define('linear', ['a', 'b'], ['r'], [op('MatMul', ['a', 'b'], 'r')], { opsetImport: own });
    const calling = run([f], [call('linear', ['x', 'w'], 'y')], { opsetImport: models });
    expect(thrownBy(calling)).toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringContaining('function "linear" is written in opset'),
    });
  });

  it('functions in two opsets of a domain that the model does not import', () => {
    const [f, g] = [1, 2].map((version) =>
      define(`f${version}`, ['a', 'b'], ['r'], [op('MatMul', ['a', 'b'], 'r')], {
        opsetImport: [{ domain: 'com.x', version }],
      }),
    ) as [Uint8Array, Uint8Array];
    expectRefusal(run([f, g], [call('f1', ['x', 'w'], 'm'), call('f2', ['m', 'w'], 'y')]), 'MODEL_UNSUPPORTED');
  });
});

describe('inline-functions and what it does not inline', () => {
  const plain = define('plain', ['a'], ['r'], [op('Neg', ['a'], 'n'), op('Relu', ['n'], 'r')], {
    attributeProto: [intOf('k', 1)],
    docString: 'kept',
  });

  it('leaves a model without products in functions as it is, byte for byte', () => {
    const bytes = bytesOf([plain], [op('MatMul', ['x', 'w'], 'm'), call('plain', ['m'], 'y')]);
    const model = decodeModel(bytes);
    expect(inlineFunctions.run(model)).toBeUndefined();
    expect(Buffer.from(encodeModel(model))).toEqual(Buffer.from(bytes));
  });

  it('keeps those functions beside others that it drops from the file', () => {
    const unused = define('unused', ['a', 'b'], ['r'], [op('Conv', ['a', 'b'], 'r')]);
    const model = decodeModel(
      bytesOf([LINEAR, plain, unused], [call('linear', ['x', 'w'], 'm'), call('plain', ['m'], 'y')]),
    );
    inlineFunctions.run(model);
    expect(model.functions.map(({ name }) => name)).toEqual(['plain']);
    const { functions } = decodeMessage('ModelProto', encodeModel(model));
    expect(functions.map((each: Uint8Array) => Buffer.from(each))).toEqual([Buffer.from(plain)]);
    expect(decodeMessage('ModelProto', encodeModel(model)).graph.length).toBeGreaterThan(0);
  });

  it('keeps calls of those functions inside the ones it inlines, with their overload', () => {
    const special = define('plain', ['a'], ['r'], [op('Abs', ['a'], 'r')], { overload: 'abs' });
    const outer = define(
      'outer',
      ['a', 'b'],
      ['r'],
      [op('MatMul', ['a', 'b'], 'p'), call('plain', ['p'], 'q'), call('plain', ['q'], 'r', { overload: 'abs' })],
    );
    const made = inlined([plain, special, outer], [call('outer', ['x', 'w'], 'y')]);
    expect(made.graph.nodes.map(({ opType, domain, overload }) => [opType, domain, overload])).toEqual([
      ['MatMul', '', ''],
      ['plain', LOCAL, ''],
      ['plain', LOCAL, 'abs'],
    ]);
    expect(made.functions.map(({ overload }) => overload)).toEqual(['', 'abs']);
  });

  it('takes an operator for the function of its name and domain only', () => {
    const hidden = define('MatMul', ['a', 'b'], ['r'], [op('Neg', ['a'], 'r')]);
    const bytes = bytesOf([hidden], [op('MatMul', ['x', 'w'], 'm'), call('MatMul', ['m', 'w'], 'y')]);
    const model = decodeModel(bytes);
    expect(inlineFunctions.run(model)).toBeUndefined();
    expect(Buffer.from(encodeModel(model))).toEqual(Buffer.from(bytes));
  });

  it('takes the opsets over that only a function imported', () => {
    const fused = define(
      'fused',
      ['a', 'b'],
      ['r'],
      [op('FusedMatMul', ['a', 'b'], 'r', { domain: 'com.microsoft' })],
      {
        opsetImport: [
          { domain: 'ai.onnx', version: 17 },
          { domain: 'com.microsoft', version: 1 },
        ],
      },
    );
    const made = inlined(
      [fused, define('other', ['a', 'b'], ['r'], [call('fused', ['a', 'b'], 'r')])],
      [call('other', ['x', 'w'], 'y')],
    );
    expect(made.opsets).toEqual([...OPSETS, { domain: 'com.microsoft', version: 1 }]);
    expect(findLinears(made.graph).map(({ kind }) => kind)).toEqual(['FusedMatMul']);
  });

  it('does nothing to a model without functions', () => {
    const bytes = bytesOf([], [op('MatMul', ['x', 'w'], 'y')]);
    const model = decodeModel(bytes);
    expect(inlineFunctions.run(model)).toBeUndefined();
    expect(Buffer.from(encodeModel(model))).toEqual(Buffer.from(bytes));
  });
});
