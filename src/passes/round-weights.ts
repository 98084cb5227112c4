import { Tensor } from '../ir/tensor.js';
import { counted, type Pass } from './pass.js';

/**
 * Rounds every float32 initializer to the nearest float16 and back: the change that storing a model in FP16 makes, and nobody minds. What it
 * does to a video is the noise floor that quantization is held against.
 */
export const roundWeights: Pass = {
  name: 'round-weights',
  description: 'rounds float32 weights to float16 precision',
  run({ graph }) {
    let rounded = 0;
    for (const tensor of graph.initializers.values()) {
      if (tensor.dtype !== 'float32' || tensor.data.kind === 'derived') continue;
      graph.addInitializer(
        new Tensor(tensor.name, 'float32', tensor.dims, {
          kind: 'derived',
          source: tensor,
          form: { as: 'float16-rounded' },
        }),
      );
      rounded++;
    }
    const weights = counted(rounded, 'weight');
    return weights && `rounded ${weights} to half precision`;
  },
};
