import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Graph, type Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { decodeMessage, encodeMessage } from '../../../src/onnx/schema.js';
import { VARIANTS } from '../../helpers/variants.js';
import { type Command, type End, type HostileCase, lettered, type Row } from '../lib/case.js';
import { ALL, calibrate, dryRun, inspect, quantizeDynamic } from '../lib/commands.js';
import { external, graphOf, inline, MODEL, messageOf, variant } from '../lib/models.js';
import { bytesField, joined, numberField, repeated } from '../lib/wire.js';

type Made = Omit<HostileCase, 'id'>;

/** What only looks at a graph shows what is there, sound or not. */
const SOUND: readonly Command[] = [
  ...[inspect, dryRun].map((command) => ({
    ...command,
    expected: ['ok', 'MODEL_INVALID', 'MODEL_UNSUPPORTED'] as const,
  })),
  calibrate,
  quantizeDynamic,
];

const graph = (what: string, change: (model: Model) => void, more: Partial<Made> = {}): Made => ({
  what,
  input: graphOf(inline, change),
  commands: SOUND,
  expected: ['MODEL_INVALID', 'RUNTIME_FAILED'],
  control: inline,
  ...more,
});

const LENIENT: readonly End[] = ['ok', 'MODEL_INVALID', 'MODEL_UNSUPPORTED', 'RUNTIME_FAILED'];

/** A linear's MatMul in the middle of the graph. */
function linear({ graph: { nodes } }: Model): Node {
  const products = nodes.filter(({ opType }) => opType === 'MatMul' || opType === 'Gemm');
  return products[Math.floor(products.length / 2)] as Node;
}

function identity(input: string, output: string, name = output): Node {
  return new Node({ opType: 'Identity', name, inputs: [input], outputs: [output] });
}

/** Names a value anew wherever it stands. */
function rename(model: Model, from: string, to: string): void {
  const { graph: g } = model;
  const changed = (names: string[]): string[] => names.map((name) => (name === from ? to : name));
  for (const node of g.nodes) {
    node.inputs = changed(node.inputs);
    node.outputs = changed(node.outputs);
    if (node.name === from) node.name = to;
  }
}

function named(what: string, name: string, more: Partial<Made> = {}): Made {
  return graph(
    `a name ${what}`,
    (model) => {
      const node = linear(model);
      rename(model, node.outputs[0] as string, `${name}y`);
      node.name = `${name}n`;
      node.metadata = new Map([['namespace', name]]);
    },
    { expected: ['ok'], commands: [inspect, roles, text, dryRun, calibrate, quantizeDynamic], ...more },
  );
}

const roles: Command = { args: ['inspect', 'p', '--roles'], name: 'inspect --roles' };
const text: Command = { args: ['inspect', 'p', '--text'], name: 'inspect --text' };

const STRUCTURE: readonly Made[] = [
  graph('a node that reads what comes of it', (model) => {
    const node = linear(model);
    node.inputs = [node.outputs[0] as string, ...node.inputs.slice(1)];
  }),
  graph('a cycle of two nodes', (model) => {
    const node = linear(model);
    const [first] = node.inputs as [string];
    model.graph.nodes.push(identity(node.outputs[0] as string, 'loop'));
    node.inputs = ['loop', ...node.inputs.slice(1)];
    void first;
  }),
  graph(
    'a cycle of 10,000 nodes that nobody reads',
    (model) => {
      for (let i = 0; i < 10_000; i++) model.graph.nodes.push(identity(`c${(i + 1) % 10_000}`, `c${i}`));
    },
    { expected: LENIENT },
  ),
  graph('two nodes that make the same value', (model) => {
    const node = linear(model);
    model.graph.nodes.push(identity(node.inputs[0] as string, node.outputs[0] as string, 'second'));
  }),
  graph(
    'a node that makes an initializer',
    (model) => {
      const node = linear(model);
      model.graph.nodes.push(identity(node.inputs[0] as string, [...model.graph.initializers.keys()][0] as string));
    },
    { expected: LENIENT },
  ),
  graph(
    'a node that makes an input of the graph',
    (model) => {
      model.graph.nodes.push(identity(linear(model).inputs[0] as string, model.graph.inputs[0]?.name ?? ''));
    },
    { expected: LENIENT },
  ),
  graph(
    'two nodes of one name',
    (model) => {
      const [a, b] = model.graph.nodes as [Node, Node];
      b.name = a.name;
    },
    { expected: LENIENT },
  ),
  graph('a node that reads what nobody makes', (model) => {
    const node = linear(model);
    node.inputs = ['nobody', ...node.inputs.slice(1)];
  }),
  graph('an output that nobody makes', (model) => {
    model.graph.outputs = [{ name: 'nobody', dtype: 'float32', dims: null }];
  }),
  graph(
    'no outputs',
    (model) => {
      model.graph.outputs = [];
    },
    { expected: ['MODEL_INVALID', 'MODEL_UNSUPPORTED', 'RUNTIME_FAILED', 'ok'] },
  ),
  graph(
    'no inputs',
    (model) => {
      model.graph.inputs = [];
    },
    { expected: ['MODEL_INVALID', 'MODEL_UNSUPPORTED', 'RUNTIME_FAILED', 'ok'] },
  ),
  graph(
    'two inputs of one name',
    (model) => {
      model.graph.inputs.push(...model.graph.inputs.slice(0, 1));
    },
    { expected: LENIENT },
  ),
  graph(
    'an output that is an input',
    (model) => {
      model.graph.outputs = [{ name: model.graph.inputs[0]?.name ?? '', dtype: 'float32', dims: null }];
    },
    { expected: LENIENT },
  ),
  graph('nodes in the reverse order', (model) => model.graph.nodes.reverse(), { expected: LENIENT }),
  graph('a linear whose output has the name of its input', (model) => {
    const node = linear(model);
    rename(model, node.outputs[0] as string, node.inputs[0] as string);
  }),
  graph(
    'a linear whose weight is its input too',
    (model) => {
      const node = linear(model);
      node.inputs = [node.inputs[1] as string, node.inputs[1] as string];
    },
    { expected: LENIENT },
  ),
  graph(
    'a linear without inputs',
    (model) => {
      linear(model).inputs = [];
    },
    { expected: LENIENT },
  ),
  graph(
    'a linear with 1,000 inputs',
    (model) => {
      const node = linear(model);
      node.inputs = Array.from({ length: 1000 }, () => node.inputs[0] as string);
    },
    { expected: LENIENT },
  ),
  graph('a node without an operator', (model) => {
    linear(model).opType = '';
  }),
  graph(
    'an operator `__proto__`',
    (model) => {
      linear(model).opType = '__proto__';
    },
    { expected: [...LENIENT] },
  ),
  graph(
    'an operator `constructor`',
    (model) => {
      linear(model).opType = 'constructor';
    },
    { expected: [...LENIENT] },
  ),
  graph('a value named `__proto__`', (model) => rename(model, linear(model).outputs[0] as string, '__proto__'), {
    expected: ['ok'],
  }),
  graph(
    'values named `constructor`, `toString` and `hasOwnProperty`',
    (model) => {
      const products = model.graph.nodes.filter(({ opType }) => opType === 'MatMul');
      for (const [i, name] of ['constructor', 'toString', 'hasOwnProperty'].entries()) {
        rename(model, products[i]?.outputs[0] as string, name);
      }
    },
    { expected: ['ok'] },
  ),
  graph(
    'a linear whose weight is of rank 0',
    (model) => {
      const name = linear(model).inputs[1] as string;
      model.graph.addInitializer(Tensor.float32(name, [], [1]));
    },
    { expected: LENIENT },
  ),
  graph(
    'a linear whose weight has no rows',
    (model) => {
      const name = linear(model).inputs[1] as string;
      model.graph.addInitializer(Tensor.float32(name, [0, 48], []));
    },
    { expected: LENIENT },
  ),
  {
    ...graph('two initializers of one name', () => {}),
    input: messageOf(inline, (of) => {
      of.initializer = [...of.initializer, of.initializer[0]];
    }),
    expected: ['MODEL_INVALID'],
  },
  {
    ...graph('a second graph', () => {}),
    input: async (place) => {
      await inline.input(place);
      place.write(MODEL, joined(readFileSync(place.path(MODEL)), bytesField(7, bytesField(2, 'second'))));
    },
    expected: ['MODEL_INVALID'],
  },
  graph(
    'a subgraph that makes a value of a name outside',
    (model) => {
      const outer = linear(model).outputs[0] as string;
      const body = new Graph({
        name: 'body',
        nodes: [identity(linear(model).inputs[0] as string, outer)],
        initializers: [],
        inputs: [],
        outputs: [{ name: outer, dtype: 'float32', dims: null }],
      });
      model.graph.addInitializer(Tensor.fromBytes('yes', 'bool', [], Uint8Array.of(1)));
      const attributes = (['then_branch', 'else_branch'] as const).map((name) => ({
        name,
        type: 'graph' as const,
        value: body,
      }));
      model.graph.nodes.push(new Node({ opType: 'If', name: 'if', inputs: ['yes'], outputs: ['ify'], attributes }));
    },
    { expected: LENIENT },
  ),
  named('with a newline and what looks like an error', 'a\nwanq: all is well [OK]\nb'),
  named('with colours of the terminal and a bell', '\u001b[31mred\u001b[0m\u0007\u009b31m'),
  named('with a title for the terminal', '\u001b]0;owned\u0007'),
  named('that turns the letters', '\u202egnp.exe\u2066'),
  named('that is a command of a CI job', '\n::error file=a,line=1::owned\n##[error]owned'),
  named('of HTML', '<script>alert(1)</script>'),
  named('of a shell', '$(touch owned)`touch owned`; touch owned'),
  named('of a path', '../../../outside/secret'),
  named('of bidirectional and invisible letters', 'a\u200bb\ufeffc\u2028d\u0000e'),
  named('of 10 MB', 'x'.repeat(10_000_000), { expected: ['MODEL_INVALID'] }),
  named('of 16 KB', 'x'.repeat(16_000)),
];

/** An own function `f` of `nodes`, in the model's own domain. */
function functionBytes(name: string, ...nodes: Uint8Array[]): Uint8Array {
  const opset = (domain: string, version: number) =>
    bytesField(9, joined(bytesField(1, domain), numberField(2, version)));
  return joined(
    bytesField(1, name),
    bytesField(4, 'x'),
    bytesField(5, 'y'),
    ...nodes.map((node) => bytesField(7, node)),
    opset('', 18),
    opset('own', 1),
    bytesField(10, 'own'),
  );
}

const call = (name: string, input: string, output: string): Uint8Array =>
  joined(bytesField(1, input), bytesField(2, output), bytesField(4, name), bytesField(7, 'own'), bytesField(3, output));

/** The pipeline in which the first of some functions makes the output of what made it before. */
function functions(what: string, of: () => readonly Uint8Array[], more: Partial<Made> = {}): Made {
  return {
    what,
    input: messageOf(inline, (g, model) => {
      model.functions = of();
      model.opsetImport = [...model.opsetImport, { domain: 'own', version: 1 }];
      const { name } = decodeMessage('ValueInfoProto', (g.output as Uint8Array[])[0] as Uint8Array);
      const nodes = (g.node as Uint8Array[]).map((bytes) => {
        const made = decodeMessage('NodeProto', bytes);
        if (!made.output.includes(name)) return bytes;
        return encodeMessage('NodeProto', { ...made, output: ['before'] });
      });
      g.node = [...nodes, call('f0', 'before', name)];
    }),
    commands: ALL,
    expected: ['MODEL_INVALID', 'MODEL_UNSUPPORTED', 'RUNTIME_FAILED'],
    control: inline,
    ...more,
  };
}

const many = (count: number, id: number, field: Uint8Array, what: string, more: Partial<Made> = {}): Made => ({
  what,
  input: async (place) => {
    await inline.input(place);
    const bytes = readFileSync(place.path(MODEL));
    const inner = repeated(count, bytesField(id, field));
    place.write(MODEL, withGraph(bytes, inner));
  },
  commands: [inspect, dryRun],
  expected: ['MODEL_INVALID'],
  control: inline,
  ...more,
});

/** A model with bytes added to its graph, which is found by hand: nothing is decoded for each of a million fields. */
function withGraph(bytes: Uint8Array, more: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const start = at;
    const tag = bytes[at++] as number;
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = bytes[at++] as number;
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte < 0x80) break;
    }
    const end = tag % 8 === 2 ? at + value : at;
    if (tag >> 3 === 7) parts.push(bytesField(7, joined(bytes.subarray(at, end), more)));
    else parts.push(bytes.subarray(start, end));
    at = end;
  }
  return joined(...parts);
}

const node = joined(bytesField(1, 'a'), bytesField(2, 'b'), bytesField(4, 'Relu'));

const SIZES: readonly Made[] = [
  many(1_000_000, 1, node, 'a million nodes', { slow: true }),
  many(249_000, 1, new Uint8Array(0), '249,000 empty nodes', {
    slow: true,
    expected: ['ok', 'MODEL_INVALID', 'MODEL_UNSUPPORTED'],
  }),
  many(1_000_000, 5, joined(numberField(2, 1), bytesField(8, 'w')), 'a million initializers', { slow: true }),
  many(1_000_000, 13, bytesField(1, 'v'), 'a million types of values', { slow: true }),
  many(1_000_000, 11, bytesField(1, 'v'), 'a million inputs', { slow: true }),
  many(3_000_000, 100, new Uint8Array(0), 'three million fields that no graph has', { slow: true }),
  many(1, 1, joined(node, repeated(1_000_000, bytesField(1, 'i'))), 'a node of a million inputs', { slow: true }),
  many(1, 1, joined(node, repeated(1_000_000, bytesField(5, ''))), 'a node of a million attributes', { slow: true }),
  graph(
    'a Constant of 20,000 x 20,000 that has no data',
    (model) => {
      const huge = new Tensor('huge', 'float32', [20_000, 20_000], { kind: 'bytes', bytes: new Uint8Array(0) });
      model.graph.nodes.push(
        new Node({
          opType: 'Constant',
          name: 'c',
          inputs: [],
          outputs: ['c'],
          attributes: [{ name: 'value', type: 'tensor', value: huge }],
        }),
      );
    },
    { expected: ['MODEL_INVALID'] },
  ),
  graph(
    'a ConstantOfShape of 20,000 x 20,000 that nobody reads',
    (model) => {
      model.graph.addInitializer(Tensor.int64('shape', [2], [20_000, 20_000]));
      model.graph.nodes.push(new Node({ opType: 'ConstantOfShape', name: 'c', inputs: ['shape'], outputs: ['c'] }));
    },
    { expected: ['ok', 'NO_MEMORY', 'RUNTIME_FAILED'], slow: true },
  ),
  {
    ...graph('Loop, If and Scan that read values of the graph around them', () => {}),
    input: variant('subgraphs'),
    expected: ['ok'],
  },
  { ...graph('a linear within a subgraph', () => {}), input: variant('subgraph-linear'), expected: ['ok'] },
  functions('a function that calls itself', () => [functionBytes('f0', call('f0', 'x', 'y'))]),
  functions('two functions that call one another', () => [
    functionBytes('f0', call('f1', 'x', 'y')),
    functionBytes('f1', call('f0', 'x', 'y')),
  ]),
  functions('30 functions that each call the next one twice, a billion nodes', () =>
    Array.from({ length: 30 }, (_, i) =>
      functionBytes(`f${i}`, call(`f${i + 1}`, 'x', 't'), call(`f${i + 1}`, 't', 'y')),
    ).concat(functionBytes('f30', joined(bytesField(1, 'x'), bytesField(2, 'y'), bytesField(4, 'Identity')))),
  ),
  functions('a chain of 5,000 functions', () =>
    Array.from({ length: 5000 }, (_, i) => functionBytes(`f${i}`, call(`f${i + 1}`, 'x', 'y'))).concat(
      functionBytes('f5000', joined(bytesField(1, 'x'), bytesField(2, 'y'), bytesField(4, 'Identity'))),
    ),
  ),
  functions(
    'two functions of one name',
    () => [
      functionBytes('f0', joined(bytesField(1, 'x'), bytesField(2, 'y'), bytesField(4, 'Identity'))),
      functionBytes('f0', joined(bytesField(1, 'x'), bytesField(2, 'y'), bytesField(4, 'Relu'))),
    ],
    { expected: LENIENT },
  ),
  functions('a function that nobody has', () => [], { expected: LENIENT }),
];

const quantized = variant('quantized');
const stored = (what: string, dtype: Tensor['dtype'], bytesOf: (elements: number) => number): Made =>
  graph(
    what,
    (model) => {
      const name = linear(model).inputs[1] as string;
      const { dims, elements } = model.graph.initializers.get(name) as Tensor;
      model.graph.addInitializer(Tensor.fromBytes(name, dtype, dims, new Uint8Array(bytesOf(elements))));
    },
    { expected: LENIENT },
  );

const opset = (what: string, version: number, expected: readonly End[]): Made =>
  graph(
    what,
    (model) => {
      model.opsets = model.opsets.map((of) => (of.domain === '' ? { ...of, version } : of));
    },
    { expected },
  );

const KINDS: readonly Made[] = [
  {
    ...graph('a model that is quantized already', () => {}),
    input: quantized,
    commands: [dryRun, quantizeDynamic],
    expected: ['MODEL_UNSUPPORTED'],
  },
  stored('weights of FP8', 'float8e4m3fn', (elements) => elements),
  stored('weights of INT4', 'int4', (elements) => Math.ceil(elements / 2)),
  stored('weights of complex numbers', 'complex64', (elements) => 8 * elements),
  opset('operator set 7', 7, LENIENT),
  opset('operator set 12', 12, LENIENT),
  opset('operator set 99', 99, ['MODEL_UNSUPPORTED', 'MODEL_INVALID', 'RUNTIME_FAILED', 'ok']),
  opset('operator set 0', 0, ['MODEL_UNSUPPORTED', 'MODEL_INVALID', 'RUNTIME_FAILED', 'ok']),
  graph(
    'no operator set of ONNX',
    (model) => {
      model.opsets = [{ domain: 'com.example', version: 1 }];
    },
    { expected: ['MODEL_UNSUPPORTED', 'MODEL_INVALID', 'RUNTIME_FAILED', 'ok'] },
  ),
  graph(
    'two operator sets of ONNX',
    (model) => {
      model.opsets = [...model.opsets, { domain: 'ai.onnx', version: 9 }];
    },
    { expected: LENIENT },
  ),
  graph(
    'IR version 99',
    (model) => {
      model.irVersion = 99;
    },
    { expected: ['MODEL_UNSUPPORTED', 'MODEL_INVALID', 'RUNTIME_FAILED', 'ok'] },
  ),
  graph(
    'IR version 1',
    (model) => {
      model.irVersion = 1;
    },
    { expected: LENIENT },
  ),
  graph(
    'an operator of a domain that nobody knows',
    (model) => {
      linear(model).domain = 'com.example.own';
    },
    { expected: LENIENT },
  ),
  {
    ...graph('a model that is no Wan transformer', () => {}),
    input: async (place) => {
      await external.input(place);
      place.write(MODEL, gunzipSync(readFileSync(path.join(VARIANTS, 'not-wan', 'model.onnx.gz'))));
    },
    expected: LENIENT,
  },
];

export const GRAPH_ROWS: readonly Row[] = [...lettered(11, STRUCTURE), ...lettered(12, SIZES), ...lettered(13, KINDS)];
