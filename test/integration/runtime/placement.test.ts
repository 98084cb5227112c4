import { expect, it } from 'vitest';
import { Node } from '../../../src/ir/graph.js';
import { nodePlacement } from '../../../src/runtime/placement.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, inMemory, modelOf, value } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

/** Where onnxruntime ran a graph of two nodes, one of them of some name. */
function placementOf(name: string) {
  const x = value('x', 'float32', [2]);
  const model = modelOf({
    nodes: [
      new Node({ opType: 'Sin', name, inputs: ['x'], outputs: ['z'] }),
      new Node({ opType: 'Cos', name: 'other', inputs: ['z'], outputs: ['y'] }),
    ],
    inputs: [x],
    outputs: [{ ...x, name: 'y' }],
  });
  const feeds = { x: { dtype: 'float32', dims: [2], data: new Float32Array(2) } } as const;
  return nodePlacement(host, { source: inMemory(model), options: CPU, feeds }, folder);
}

it('reads what onnxruntime writes', async () => {
  expect(await placementOf('one')).toEqual({ CPUExecutionProvider: 2 });
});

it.each(['a"b', 'a\\', 'a\u0001b', '","args":{"provider":"Other"},"more":"'])(
  'is unknown where a node is called %j, which breaks the profile',
  async (name) => {
    expect(await placementOf(name)).toBeNull();
  },
);
