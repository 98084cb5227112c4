import { printable, WanqError } from '../errors.js';
import type { Graph } from '../ir/graph.js';

/**
 * Every value of a graph is made once (ONNX IR: static single assignment). onnxruntime asks for the same when it opens a model; passes rely on it before
 * that.
 * @throws WanqError MODEL_INVALID
 */
export function refuseRepeatedValues({ nodes, inputs, initializers }: Graph): void {
  // Before IR version 4 initializers are inputs too.
  const made = new Set([...inputs.map(({ name }) => name), ...initializers.keys()]);
  for (const node of nodes) {
    for (const output of node.outputs) {
      if (output === '') continue;
      if (made.has(output)) throw new WanqError('MODEL_INVALID', `value "${printable(output)}" is made twice`);
      made.add(output);
    }
  }
}
