import { tmpdir } from 'node:os';
import { Graph, Model, Node, type Value } from '../ir/graph.js';
import { encodeModel } from '../onnx/codec.js';
import type { RuntimeHost } from '../runtime/host.js';
import type { SessionInfo } from '../runtime/protocol.js';
import { float32Tensor, toFloat32 } from '../runtime/tensor.js';

/** A product of two small matrices: what every provider has a kernel for. */
function tinyModel(): Uint8Array {
  const matrix = (name: string): Value => ({ name, dtype: 'float32', dims: [2, 2] });
  const product = new Node({ opType: 'MatMul', name: 'product', inputs: ['a', 'b'], outputs: ['c'], attributes: [] });
  const graph = new Graph({
    name: 'tiny',
    nodes: [product],
    initializers: [],
    inputs: [matrix('a'), matrix('b')],
    outputs: [matrix('c')],
  });
  return encodeModel(new Model({ irVersion: 8, opsets: [{ domain: '', version: 17 }], graph }));
}

/**
 * Runs a tiny model on one provider.
 * @returns undefined where the result is right, else what came instead
 * @throws WanqError as sessions do
 */
export async function runTinyModel(
  host: RuntimeHost,
  provider: string,
): Promise<{ info: SessionInfo; wrong: string | undefined }> {
  const session = await host.createSession({ bytes: tinyModel(), folder: tmpdir() }, { providers: [provider] });
  const { outputs } = await session.run({
    a: float32Tensor(Float32Array.of(1, 2, 3, 4), [2, 2]),
    b: float32Tensor(Float32Array.of(5, -6, 7, 8), [2, 2]),
  });
  await session.release();
  const values = outputs.c ? [...toFloat32(outputs.c)].join(', ') : 'nothing';
  return { info: session.info, wrong: values === '19, 10, 43, 14' ? undefined : values };
}
