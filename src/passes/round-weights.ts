import { asBytes, type ReadTensor, Tensor } from '../ir/tensor.js';
import { float32ToHalf, halfToFloat32 } from '../numerics/half.js';
import type { Pass } from './pass.js';
import { asFloat32 } from './stored-weight.js';

/**
 * Rounds every float32 initializer to the nearest float16 and back: the change that storing a model in FP16 makes, and nobody minds. What it
 * does to a video is the noise floor that quantization is held against.
 */
export function roundWeights(read: ReadTensor): Pass {
  const done = new WeakSet<Tensor>();
  return {
    name: 'round-weights',
    description: 'rounds float32 weights to float16 precision',
    run({ graph }) {
      let modified = false;
      for (const tensor of graph.initializers.values()) {
        if (tensor.dtype !== 'float32' || done.has(tensor)) continue;
        const rounded = new Tensor(tensor.name, 'float32', tensor.dims, {
          kind: 'lazy',
          byteLength: tensor.byteLength,
          produce: async () => asBytes(halfToFloat32(float32ToHalf(asFloat32(tensor, await read(tensor))))),
        });
        done.add(rounded);
        graph.addInitializer(rounded);
        modified = true;
      }
      return modified;
    },
  };
}
