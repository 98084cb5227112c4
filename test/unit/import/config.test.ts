import { describe, expect, it } from 'vitest';
import { configOf, TINY } from './support.js';

describe('readConfig', () => {
  it("fills in diffusers' defaults", async () => {
    expect(await configOf({})).toEqual({
      patch: [1, 2, 2],
      heads: 40,
      headDim: 128,
      width: 5120,
      inChannels: 16,
      outChannels: 16,
      textDim: 4096,
      freqDim: 256,
      ffnDim: 13824,
      layers: 40,
      crossAttnNorm: true,
      eps: 1e-6,
      imageDim: null,
      imagePositions: null,
      maxPositions: 1024,
    });
  });

  it.each([null, 0])('takes out_channels %s as as many as go in', async (out_channels) => {
    expect(await configOf({ ...TINY, out_channels })).toMatchObject({ outChannels: 3 });
  });

  it('reads an image-to-video model', async () => {
    const raw = { ...TINY, image_dim: 9, added_kv_proj_dim: 16, pos_embed_seq_len: 14 };
    expect(await configOf(raw)).toMatchObject({ imageDim: 9, imagePositions: 14 });
  });

  it.each([{ _anything: { a: 1 } }, { quantization_config: null }, { add_img_emb: false }, { window_size: [-1, -1] }])(
    'takes no notice of %j',
    async (extra) => {
      await expect(configOf({ ...TINY, ...extra })).resolves.toMatchObject({ layers: 2 });
    },
  );

  it.each<[string, Record<string, unknown>, string]>([
    ['another class', { _class_name: 'WanVACETransformer3DModel' }, 'is a WanVACETransformer3DModel'],
    ['a field it does not know', { vace_layers: [0] }, 'field "vace_layers"'],
    ['a quantized checkpoint', { quantization_config: { quant_method: 'bitsandbytes' } }, 'quantization_config'],
    ['another norm', { qk_norm: 'layer_norm' }, 'qk_norm is "layer_norm"'],
    ['no norm', { qk_norm: null }, 'qk_norm is null'],
    ['local attention', { window_size: [4, 4] }, 'window_size'],
    ['heads of an odd size', { attention_head_dim: 9 }, 'attention_head_dim is 9'],
    ['heads too small for three axes', { attention_head_dim: 4 }, 'attention_head_dim is 4'],
    ['an odd sinusoid', { freq_dim: 5 }, 'freq_dim is 5'],
    ['an image without keys for it', { image_dim: 9 }, 'image_dim and added_kv_proj_dim'],
    ['keys without an image', { added_kv_proj_dim: 16 }, 'image_dim and added_kv_proj_dim'],
    ['keys of another width', { image_dim: 9, added_kv_proj_dim: 12 }, 'added_kv_proj_dim is 12'],
    ['positions without an image', { pos_embed_seq_len: 14 }, 'pos_embed_seq_len'],
  ])('refuses %s', async (_, change, says) => {
    await expect(configOf({ ...TINY, ...change })).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringContaining(says),
    });
  });

  it.each<[string, unknown]>([
    ['num_layers', 0],
    ['num_layers', 1e9],
    ['num_layers', '30'],
    ['num_attention_heads', -1],
    ['attention_head_dim', 2 ** 40],
    ['rope_max_seq_len', 1e9],
    ['patch_size', [2, 2]],
    ['patch_size', 2],
    ['eps', 0],
    ['eps', null],
    ['cross_attn_norm', 'yes'],
    ['in_channels', 1.5],
  ])('refuses %s of %j', async (field, value) => {
    await expect(configOf({ ...TINY, [field]: value })).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining(field),
    });
  });
});
