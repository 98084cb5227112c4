import { describe, expect, it } from 'vitest';
import { Tensor } from '../../../src/ir/tensor.js';
import { fromHalf } from '../../../src/numerics/half.js';
import { roundWeights } from '../../../src/passes/round-weights.js';
import { model, node, readFloats } from '../helpers/graphs.js';

describe('round-weights', () => {
  const build = () =>
    model({
      nodes: [node('Add', ['w', 'shape'], 'y')],
      initializers: [Tensor.float32('w', [2, 2], [1 / 3, -1 - 2 ** -12, 2 ** -24, 5]), Tensor.int64('shape', [1], [7])],
    });
  const tensor = (made: ReturnType<typeof build>, name: string): Tensor => made.graph.initializers.get(name) as Tensor;

  it('rounds float32 initializers to the nearest float16 and leaves others alone', async () => {
    const made = build();
    const integers = tensor(made, 'shape');
    expect(roundWeights.run(made)).toBeDefined();
    expect(await readFloats(tensor(made, 'w'))).toEqual([fromHalf(0x3555), -1, 2 ** -24, 5]);
    expect(tensor(made, 'w')).toMatchObject({ dtype: 'float32', dims: [2, 2], byteLength: 16 });
    expect(tensor(made, 'shape')).toBe(integers);
    expect([...made.graph.initializers.keys()]).toEqual(['w', 'shape']);
  });

  it('changes nothing the second time', async () => {
    const made = build();
    const pass = roundWeights;
    pass.run(made);
    const rounded = tensor(made, 'w');
    expect(pass.run(made)).toBeUndefined();
    expect(tensor(made, 'w')).toBe(rounded);
    const once = await readFloats(rounded);
    roundWeights.run(made);
    expect(await readFloats(tensor(made, 'w'))).toEqual(once);
  });
});
