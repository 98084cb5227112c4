import { describe, expect, it } from 'vitest';
import { forwardFlops } from '../../../src/analyze/flops.js';
import { summarize } from '../../../src/analyze/inspect.js';
import { findLinears } from '../../../src/analyze/linears.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graph, node } from '../helpers/graphs.js';

const WEIGHTS: [name: string, dims: [number, number]][] = [
  ['time_embedding.0.weight', [2, 8]],
  ['text_embedding.0.weight', [4, 8]],
  ...[0, 1].flatMap((n): [string, [number, number]][] => [
    [`blocks.${n}.self_attn.o.weight`, [8, 8]],
    [`blocks.${n}.cross_attn.k.weight`, [8, 8]],
    [`blocks.${n}.ffn.0.weight`, [8, 16]],
  ]),
];

const transformer = graph({
  nodes: WEIGHTS.map(([name], i) => node('MatMul', ['x', name], `y${i}`)),
  initializers: [
    ...WEIGHTS.map(([name, dims]) => Tensor.float32(name, dims, new Float32Array(dims[0] * dims[1]))),
    Tensor.int64('shape', [3], [1, 2, 3]),
  ],
  inputs: ['x'],
  outputs: ['y0'],
});

describe('summarize', () => {
  const summary = summarize(transformer, 17);

  it('counts linears by role, blocks together', () => {
    const count = (role: string) => summary.roles.find((row) => row.role === role);
    expect(summary.roles).toHaveLength(5);
    expect(count('blocks.*.ffn.up')).toEqual({
      role: 'blocks.*.ffn.up',
      count: 2,
      parameters: 256,
      bytes: 1024,
      evidence: 'weight name',
      confidence: 'high',
    });
    expect(count('text_embedder.1')).toMatchObject({ count: 1, parameters: 32 });
  });

  it('counts everything of the graph', () => {
    expect(summary).toMatchObject({ nodes: 8, opset: 17, blocks: 2 });
    const parameters = 16 + 32 + 2 * (64 + 64 + 128);
    expect(summary.parameters).toBe(parameters + 3);
    expect(summary.bytes).toBe(4 * parameters + 24);
  });
});

describe('forwardFlops', () => {
  const linears = findLinears(transformer);
  const [tokens, text] = [100, 10];
  const perBlock = { q: 2 * tokens * 64, k: 2 * text * 64, up: 2 * tokens * 128 };
  const all = 2 * 16 + 2 * text * 32 + 2 * (perBlock.q + perBlock.k + perBlock.up);
  const attention = 2 * 4 * 8 * tokens * (tokens + text);

  it('counts one row for the timestep, text rows for text, video rows for the rest', () => {
    expect(forwardFlops(linears, tokens, text, new Set())).toEqual({
      linears: all,
      attention,
      quantized: 0,
      bound: 1,
    });
  });

  it('halves the time of what is quantized', () => {
    const quantized = new Set(linears.filter(({ role }) => role.endsWith('ffn.up')).map(({ output }) => output));
    const result = forwardFlops(linears, tokens, text, quantized);
    expect(result.quantized).toBe(2 * perBlock.up);
    expect(result.bound).toBeCloseTo((all + attention) / (all + attention - perBlock.up), 12);
  });
});
