import { describe, expect, it } from 'vitest';
import { blockOf, roleOf, UNKNOWN_ROLE } from '../../../src/analyze/roles.js';
import { node } from '../helpers/graphs.js';

const NAMES: [diffusers: string, original: string, role: string][] = [
  ['blocks.3.attn1.to_q', 'blocks.3.self_attn.q', 'blocks.3.attn1.q'],
  ['blocks.3.attn1.to_k', 'blocks.3.self_attn.k', 'blocks.3.attn1.k'],
  ['blocks.12.attn1.to_v', 'blocks.12.self_attn.v', 'blocks.12.attn1.v'],
  ['blocks.0.attn1.to_out.0', 'blocks.0.self_attn.o', 'blocks.0.attn1.out'],
  ['blocks.29.attn2.to_q', 'blocks.29.cross_attn.q', 'blocks.29.attn2.q'],
  ['blocks.29.attn2.to_out.0', 'blocks.29.cross_attn.o', 'blocks.29.attn2.out'],
  ['blocks.1.ffn.net.0.proj', 'blocks.1.ffn.0', 'blocks.1.ffn.up'],
  ['blocks.1.ffn.net.2', 'blocks.1.ffn.2', 'blocks.1.ffn.down'],
  ['condition_embedder.time_embedder.linear_1', 'time_embedding.0', 'time_embedder.1'],
  ['condition_embedder.time_embedder.linear_2', 'time_embedding.2', 'time_embedder.2'],
  ['condition_embedder.text_embedder.linear_1', 'text_embedding.0', 'text_embedder.1'],
  ['condition_embedder.text_embedder.linear_2', 'text_embedding.2', 'text_embedder.2'],
  ['condition_embedder.time_proj', 'time_projection.1', 'time_proj'],
  ['patch_embedding', 'patch_embedding', 'patch_embedding'],
  ['proj_out', 'head.head', 'proj_out'],
];

const plain = node('MatMul', ['x', 'w'], 'y');

describe('roleOf', () => {
  it.each(NAMES)('reads weights named %s and %s', (diffusers, original, role) => {
    for (const name of [diffusers, original, `model.${diffusers}`]) {
      expect(roleOf(plain, `${name}.weight`, [])).toEqual({ role, evidence: 'weight name', confidence: 'high' });
    }
  });

  it.each(NAMES)('reads node paths of %s', (diffusers, _, role) => {
    const path = `/${diffusers.replaceAll('.', '/').replace(/blocks\/(\d+)/, 'blocks.$1')}/MatMul`;
    const made = node('MatMul', ['x', 'w'], 'y', [], { name: path });
    expect(roleOf(made, 'onnx::MatMul_4711', [])).toEqual({ role, evidence: 'node name', confidence: 'high' });
  });

  it.each([
    ['pkg.torch.onnx.name_scopes', "['', 'blocks.2', 'blocks.2.ffn', 'blocks.2.ffn.net.0.proj', 'linear']"],
    ['namespace', ': wan/blocks.2: Block/blocks.2.ffn: FFN/blocks.2.ffn.net.0.proj: Linear/linear: aten.linear'],
  ])('reads module scopes in %s', (key, scopes) => {
    const made = node('MatMul', ['x', 'w'], 'y', [], { metadata: new Map([[key, scopes]]) });
    expect(roleOf(made, 'val_12', [])).toEqual({
      role: 'blocks.2.ffn.up',
      evidence: 'module scope',
      confidence: 'high',
    });
  });

  it('reads the name of the bias', () => {
    expect(roleOf(plain, 'val_12', ['blocks.5.attn2.to_k.bias'])).toEqual({
      role: 'blocks.5.attn2.k',
      evidence: 'bias name',
      confidence: 'high',
    });
  });

  it('believes the weight first, then scope, bias and node', () => {
    const made = node('MatMul', ['x', 'w'], 'y', [], {
      name: '/blocks.4/ffn/net.2/MatMul',
      metadata: new Map([['namespace', 'blocks.2.ffn.net.2']]),
    });
    const roles = [
      roleOf(made, 'blocks.1.ffn.net.2.weight', ['blocks.3.ffn.net.2.bias']),
      roleOf(made, 'w', ['blocks.3.ffn.net.2.bias']),
      roleOf(node('MatMul', [], 'y', [], { name: made.name }), 'w', ['blocks.3.ffn.net.2.bias']),
      roleOf(node('MatMul', [], 'y', [], { name: made.name }), 'w', []),
    ].map(({ role }) => role);
    expect(roles).toEqual([1, 2, 3, 4].map((n) => `blocks.${n}.ffn.down`));
  });

  it.each([
    'blocks.0.attn1.norm_q.weight',
    'transformer_blocks.0.attn1.to_q.weight',
    'blocks.0.attn1.to_qk.weight',
    'blocks.0.attn1.to_query.weight',
    'blocks.0.ffn.net.20.weight',
    'blocks.0.attn1.to_q_lora.weight',
    'time_projector.weight',
    'my_proj_out.weight',
    'w',
  ])('finds no role in %s', (name) => {
    expect(roleOf(node('MatMul', [], ''), name, []).role).toBe(UNKNOWN_ROLE);
  });
});

describe('blockOf', () => {
  it.each([
    ['blocks.0.ffn.up', 0],
    ['blocks.29.attn1.q', 29],
    ['proj_out', undefined],
    ['linear', undefined],
  ])('of %s is %s', (role, block) => {
    expect(blockOf(role)).toBe(block);
  });
});
