import { describe, expect, it } from 'vitest';
import type { StoredTensor } from '../../../src/import/checkpoint.js';
import { buildTransformer } from '../../../src/import/model/transformer.js';
import { CheckpointWeights } from '../../../src/import/weights.js';
import { askedWeights, configOf, TINY } from './support.js';

/** Builds the tiny model over tensors that were changed; throws what does not fit. */
async function build(change: (tensors: Map<string, StoredTensor>) => void) {
  const config = await configOf(TINY);
  const tensors = new Map(
    [...askedWeights(config)].map(([name, dims]): [string, StoredTensor] => {
      const length = 4 * dims.reduce((a, b) => a * b, 1);
      return [name, { dtype: 'F32', dims, file: 'w.safetensors', offset: 64, length }];
    }),
  );
  change(tensors);
  const weights = new CheckpointWeights(tensors);
  const model = buildTransformer(config, 'batch', weights);
  weights.assertFit('here');
  return model;
}

function edit(tensors: Map<string, StoredTensor>, name: string, change: Partial<StoredTensor>): void {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`no ${name}`);
  tensors.set(name, { ...tensor, ...change });
}

const UP = 'blocks.1.ffn.net.0.proj.weight';

describe('the weights of a checkpoint', () => {
  it('become initializers that point into its files', async () => {
    const { graph } = await build(() => {});
    expect(graph.initializers.get(UP)).toMatchObject({
      dtype: 'float32',
      dims: [7, 16],
      data: { kind: 'external', location: 'w.safetensors', offset: 64, length: 448 },
    });
  });

  it.each([
    ['F16', 'float16'],
    ['BF16', 'bfloat16'],
  ] as const)('of %s keep their type, and are cast where they are read', async (dtype, stored) => {
    const { graph } = await build((tensors) => edit(tensors, UP, { dtype, length: 224 }));
    expect(graph.initializers.get(UP)?.dtype).toBe(stored);
    const [cast, ...others] = graph.nodes.filter(({ opType }) => opType === 'Cast');
    expect(others).toEqual([]);
    expect(cast).toMatchObject({ name: '/blocks.1/ffn/net/0/proj/weight/Cast', inputs: [UP] });
    expect(cast?.intAttribute('to', 0)).toBe(1);
  });

  it('that are missing are named', async () => {
    const gone = build((tensors) => {
      for (const name of [UP, 'scale_shift_table']) tensors.delete(name);
    });
    await expect(gone).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: `here: 2 tensors are missing (${UP}; scale_shift_table)`,
    });
  });

  it('that are too many are named', async () => {
    const more = build((tensors) => {
      for (const name of ['a', 'b', 'c', 'd', 'e']) edit(tensors.set(name, { ...tensorOf(tensors) }), name, {});
    });
    await expect(more).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: 'here: 5 tensors are not part of the model (a; b; c and 2 more)',
    });
  });

  it('of another shape are named with both', async () => {
    await expect(build((tensors) => edit(tensors, UP, { dims: [16, 7] }))).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: `here: 1 tensor is of another shape (${UP} is [16, 7], expected [7, 16])`,
    });
  });

  it('are complained of all at once', async () => {
    const wrong = build((tensors) => {
      edit(tensors, UP, { dims: [7, 17] });
      tensors.set('blocks.0.attn1.to_qkv.weight', tensorOf(tensors));
      tensors.delete('blocks.0.attn1.to_q.weight');
    });
    await expect(wrong).rejects.toMatchObject({
      message: expect.stringMatching(/missing \(.*to_q\.weight\); .*another shape .*; .*not part .*to_qkv/),
    });
  });

  it.each(['F64', 'I8'] as const)('of type %s are refused', async (dtype) => {
    await expect(build((tensors) => edit(tensors, UP, { dtype }))).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringContaining(`${UP} is ${dtype}`),
    });
  });

  it('that diffusers skips are skipped', async () => {
    const skipped = build((tensors) => tensors.set('blocks.0.attn2.norm_added_q.weight', tensorOf(tensors)));
    await expect(skipped).resolves.toBeDefined();
  });

  it('with control characters in their names do not reach a terminal', async () => {
    const hostile = build((tensors) => tensors.set('\u001b[31mred', tensorOf(tensors)));
    await expect(hostile).rejects.toMatchObject({ message: expect.not.stringContaining('\u001b') });
  });
});

function tensorOf(tensors: Map<string, StoredTensor>): StoredTensor {
  return tensors.get(UP) as StoredTensor;
}
