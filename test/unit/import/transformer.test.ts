import { beforeAll, describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { blockCount } from '../../../src/analyze/select.js';
import { timeFrequencies } from '../../../src/import/model/condition-embedder.js';
import { axisPairs, axisTable } from '../../../src/import/model/rotary.js';
import { buildTransformer } from '../../../src/import/model/transformer.js';
import type { Graph, Model } from '../../../src/ir/graph.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { askedWeights, configOf, type RawConfig, recording, TINY } from './support.js';

const shared = { text_dim: 4096, freq_dim: 256, attention_head_dim: 128 };
const T2V_1_3B = { ...shared, num_attention_heads: 12, ffn_dim: 8960, num_layers: 30 };
const T2V_14B = { ...shared, num_attention_heads: 40, ffn_dim: 13824, num_layers: 40 };
const TI2V_5B = {
  ...shared,
  num_attention_heads: 24,
  ffn_dim: 14336,
  num_layers: 30,
  in_channels: 48,
  out_channels: 48,
};

async function build(raw: RawConfig, timestep: 'batch' | 'tokens' = 'batch'): Promise<Model> {
  return buildTransformer(await configOf(raw), timestep, recording());
}

/** Nodes of a module, its parts included. */
function under(graph: Graph, module: string): number {
  return graph.nodes.filter(({ name }) => name.startsWith(`${module}/`)).length;
}

describe.each([
  ['1.3B', T2V_1_3B, 1_418_996_800, 30],
  ['5B', TI2V_5B, 4_999_787_712, 30],
  ['14B', T2V_14B, 14_288_491_584, 40],
] as const)('a model of the %s shape', (_, raw, parameters, layers) => {
  let model: Model;
  beforeAll(async () => {
    model = await build(raw);
  });

  it('has the published number of parameters', async () => {
    const asked = askedWeights(await configOf(raw));
    const counted = [...asked.values()].reduce((sum, dims) => sum + dims.reduce((a, b) => a * b, 1), 0);
    expect(counted).toBe(parameters);
    // Of a block: 2 x 10 of attention, 2 of its norm, 4 of the feed-forward layer, 1 table; outside: 2 + 4 x 2 + 2 + 2 + 1.
    expect(asked.size).toBe(layers * 27 + 15);
  });

  it('has a role for every linear', () => {
    const linears = findLinears(model.graph);
    expect(linears).toHaveLength(layers * 10 + 7);
    expect(blockCount(linears)).toBe(layers);
    expect(linears.filter(({ role }) => role === 'linear')).toEqual([]);
  });

  it('has blocks that are built alike', () => {
    const sizes = Array.from({ length: layers }, (_, i) => under(model.graph, `/blocks.${i}`));
    expect(new Set(sizes).size).toBe(1);
    expect(model.graph.nodes.length).toBeLessThan(layers * 130 + 100);
  });
});

describe('the graph', () => {
  it('names weights as the checkpoint does, and nodes and values by the module they are in', async () => {
    const { graph } = await build(TINY);
    expect([...graph.initializers.keys()]).toEqual(
      expect.arrayContaining(['scale_shift_table', 'blocks.1.attn2.to_out.0.weight', 'blocks.0.ffn.net.0.proj.bias']),
    );
    const product = graph.nodes.find(({ name }) => name === '/blocks.0/attn1/to_q/MatMul');
    expect(product?.outputs).toEqual(['/blocks.0/attn1/to_q/MatMul_output_0']);
    const names = graph.nodes.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  it('stands in topological order and states the type and shape of every value', async () => {
    const { graph } = await build(TINY);
    const made = new Set([...graph.initializers.keys(), ...graph.inputs.map(({ name }) => name)]);
    for (const { inputs, outputs } of graph.nodes) {
      expect(inputs.filter((name) => !made.has(name))).toEqual([]);
      for (const name of outputs) made.add(name);
    }
    const stated = new Set([...graph.valueInfo, ...graph.outputs].map(({ name }) => name));
    expect(graph.nodes.flatMap(({ outputs }) => outputs).filter((name) => !stated.has(name))).toEqual([]);
  });

  it('leaves every size open that is not one of the model', async () => {
    const { graph } = await build(TINY);
    expect(graph.inputs.map(({ name, dtype, dims }) => [name, dtype, dims])).toEqual([
      ['hidden_states', 'float32', ['batch', 3, 'frames', 'height', 'width']],
      ['timestep', 'float32', ['batch']],
      ['encoder_hidden_states', 'float32', ['batch', 'text_length', 5]],
    ]);
    expect(graph.outputs.map(({ name, dims }) => [name, dims])).toEqual([
      ['out_sample', ['batch', 3, 'frames', '2*(height//2)', '2*(width//2)']],
    ]);
  });

  it('takes one timestep for every token', async () => {
    const { graph } = await build(TINY, 'tokens');
    expect(graph.inputs[1]).toMatchObject({ name: 'timestep', dims: ['batch', 'tokens'] });
  });

  it('takes an image where the model does', async () => {
    const raw = { ...TINY, in_channels: 6, image_dim: 9, added_kv_proj_dim: 16 };
    expect((await build(raw)).graph.inputs[3]).toMatchObject({ dims: ['batch', 'image_tokens', 9] });
    const asked = askedWeights(await configOf(raw));
    expect(asked.get('blocks.0.attn2.add_k_proj.weight')).toEqual([16, 16]);
    expect(asked.get('condition_embedder.image_embedder.ff.net.0.proj.weight')).toEqual([9, 9]);
    expect(asked.size).toBe(2 * (27 + 5) + 15 + 8);
    const joined = (await build({ ...raw, pos_embed_seq_len: 14 })).graph;
    expect(joined.inputs[3]).toMatchObject({ dims: ['images', 'image_tokens', 9] });
    expect(joined.initializers.get('condition_embedder.image_embedder.pos_embed')?.dims).toEqual([1, 14, 9]);
  });

  it('does without the norm of cross attention', async () => {
    const asked = askedWeights(await configOf({ ...TINY, cross_attn_norm: false }));
    expect([...asked.keys()].filter((name) => name.includes('norm2'))).toEqual([]);
  });

  it('comes back from its bytes', async () => {
    const model = await build(TINY);
    const back = decodeModel(encodeModel(model));
    expect(back).toMatchObject({ irVersion: 10, opset: 20 });
    expect(back.graph.nodes.map(({ opType, inputs }) => [opType, inputs])).toEqual(
      model.graph.nodes.map(({ opType, inputs }) => [opType, inputs]),
    );
  });
});

describe('tables', () => {
  it('share the pairs of a head out over three axes', () => {
    expect(axisPairs(128)).toEqual([22, 21, 21]);
    expect(axisPairs(32)).toEqual([6, 5, 5]);
    expect(axisPairs(12)).toEqual([2, 2, 2]);
  });

  it('hold cosines and sines of positions times frequencies', () => {
    const table = axisTable(3, 2);
    const angles = [0, 1, 2].map((position) => [position, position / 100]);
    const expected = angles.flatMap((pair) => [...pair.map(Math.cos), ...pair.map(Math.sin)]);
    expect(table).toEqual(Float32Array.from(expected));
  });

  it('fall from 1 by equal factors', () => {
    const [first, , , fourth] = timeFrequencies(8);
    expect(first).toBe(1);
    expect(fourth).toBeCloseTo(10_000 ** (-3 / 8), 8);
  });
});
