import { int } from '../ir/attribute.js';
import { DataType } from '../ir/dtype.js';
import { Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { Tensor } from '../ir/tensor.js';
import { counted, type Pass } from './pass.js';

/**
 * Stores float32 initializers as float16, with a Cast back to float32 in front of whoever reads them: half the bytes, and every operator
 * computes as it did, on weights of eleven bits.
 *
 * @param names initializers to store so; others are left alone
 */
export function storeFloat16(names: ReadonlySet<string>): Pass {
  return {
    name: 'store-float16',
    description: 'stores float32 weights as float16, cast back where they are read',
    run({ graph }) {
      const taken = new NameAuthority(graph);
      const casts: Node[] = [];
      for (const tensor of [...graph.initializers.values()]) {
        if (!names.has(tensor.name) || tensor.dtype !== 'float32' || tensor.data.kind === 'derived') continue;
        const stored = taken.unique(`${tensor.name}_float16`);
        graph.initializers.delete(tensor.name);
        graph.addInitializer(
          new Tensor(stored, 'float16', tensor.dims, { kind: 'derived', source: tensor, form: { as: 'float16' } }),
        );
        casts.push(
          new Node({
            opType: 'Cast',
            name: taken.unique(`${tensor.name}_Cast`),
            inputs: [stored],
            outputs: [tensor.name],
            attributes: [int('to', DataType.float32)],
          }),
        );
      }
      graph.nodes.unshift(...casts);
      graph.inputs = graph.inputs.filter(({ name }) => !casts.some(({ outputs }) => outputs[0] === name));
      const weights = counted(casts.length, 'weight');
      return weights && `stored ${weights} as FP16, cast back where they are read`;
    },
  };
}
