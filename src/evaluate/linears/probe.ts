import type { Linear } from '../../analyze/linears.js';
import { Graph, Node } from '../../ir/graph.js';
import { Tensor } from '../../ir/tensor.js';
import { type GraphIndex, valuesRead } from '../../ir/traverse.js';
import { withGraph } from '../../onnx/codec.js';
import type { LoadedModel } from '../../onnx/load.js';
import { runPasses } from '../../passes/pass.js';
import { removeUnused } from '../../passes/remove-unused.js';
import type { RuntimeHost } from '../../runtime/host.js';
import type { SessionOptions } from '../../runtime/protocol.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../../runtime/tensor.js';

const INPUT = 'wanq.probe';

/** Weights are used where they lie: each is multiplied with once. */
const ONCE: SessionOptions = { providers: ['cpu'], optimization: 'basic', prepack: false, memoryPattern: false };

/**
 * Runs one linear of a model by itself.
 *
 * @param loaded whose model has it; weights in a mounted file, which onnxruntime would not look for there, go along in the graph
 * @param producers of the model's values
 * @param rows `[n, inFeatures]`
 * @returns `[n, outFeatures]`, with the bias that the node itself adds
 */
export async function runLinear(
  host: RuntimeHost,
  loaded: LoadedModel,
  { node, output, computeType, inFeatures }: Linear,
  producers: GraphIndex['producers'],
  rows: Float32Array,
): Promise<Float32Array> {
  const { graph } = loaded.model;
  const needed = ancestors(node, producers);
  const type = computeType ?? 'float32';
  const alone = new Graph({
    name: graph.name,
    nodes: graph.nodes.flatMap((other) => {
      if (other === node) return [new Node({ ...node, inputs: [INPUT, ...node.inputs.slice(1)] })];
      return needed.has(other) ? [other] : [];
    }),
    initializers: [...graph.initializers.values()],
    inputs: [{ name: INPUT, dtype: type, dims: [null, inFeatures] }],
    outputs: [{ name: output, dtype: type, dims: null }],
  });
  const probe = withGraph(loaded.model, alone);
  runPasses(probe, [removeUnused]);
  for (const tensor of probe.graph.initializers.values()) {
    if (loaded.isMounted(tensor)) probe.graph.addInitializer(await embedded(tensor, loaded));
  }
  const session = await host.createSession(await loaded.encoded(probe), ONCE);
  try {
    const dims = [rows.length / inFeatures, inFeatures];
    const { outputs } = await session.run({ [INPUT]: fromFloat32(rows, dims, type) }, [output]);
    return toFloat32(outputs[output] as HostTensor);
  } finally {
    await session.release();
  }
}

/** Nodes that make what a node multiplies its activation with. */
function ancestors(node: Node, producers: GraphIndex['producers']): Set<Node> {
  const found = new Set<Node>();
  const open = node.inputs.slice(1);
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const maker = producers.get(name);
    if (!maker || found.has(maker)) continue;
    found.add(maker);
    open.push(...valuesRead(maker));
  }
  return found;
}

async function embedded(tensor: Tensor, loaded: LoadedModel): Promise<Tensor> {
  return Tensor.fromBytes(tensor.name, tensor.dtype, tensor.dims, await loaded.read(tensor));
}
