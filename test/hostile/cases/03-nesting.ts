import type { Message } from '../../../src/onnx/schema.js';
import { type HostileCase, lettered, type Row } from '../lib/case.js';
import { ALL, dryRun, inspect } from '../lib/commands.js';
import { inline, messageOf } from '../lib/models.js';
import { bytesField, joined, numberField } from '../lib/wire.js';

/** A node with a graph in it, in which is a node with a graph in it, and so on. */
export function nested(depth: number): Uint8Array {
  let node = joined(bytesField(1, 'x'), bytesField(2, 'y'), bytesField(4, 'Identity'));
  for (let i = 0; i < depth; i++) {
    const graph = joined(bytesField(1, node), bytesField(2, 'g'));
    const attribute = joined(bytesField(1, 'body'), bytesField(6, graph), numberField(20, 5));
    node = joined(bytesField(2, `y${i}`), bytesField(4, 'If'), bytesField(5, attribute));
  }
  return node;
}

const addNode = (graph: Message, node: Uint8Array): void => {
  (graph.node as Uint8Array[]).push(node);
};

const deep = (depth: number, expected: HostileCase['expected'], commands: HostileCase['commands']) => ({
  what: `graphs ${depth} deep in one another`,
  input: messageOf(inline, (graph) => addNode(graph, nested(depth))),
  commands,
  expected,
  control: inline,
});

export const NESTING_ROWS: readonly Row[] = lettered(3, [
  deep(16, ['ok'], [inspect, dryRun]),
  deep(17, ['MODEL_INVALID'], ALL),
  deep(34, ['MODEL_INVALID'], ALL),
  deep(40, ['MODEL_INVALID'], ALL),
  deep(5000, ['MODEL_INVALID'], ALL),
  {
    what: 'graphs 5000 deep in one another, in a function that nobody calls',
    input: messageOf(inline, (_, model) => {
      const fn = joined(bytesField(1, 'f'), bytesField(10, 'own'), bytesField(7, nested(5000)));
      model.functions = [...((model.functions as Uint8Array[] | undefined) ?? []), fn];
    }),
    commands: ALL,
    expected: ['MODEL_INVALID'],
    control: inline,
  } satisfies Omit<HostileCase, 'id'>,
]);
