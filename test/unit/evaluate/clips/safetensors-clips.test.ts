import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openClips } from '../../../../src/evaluate/clips/index.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../../../../src/util/safetensors.js';
import { MICRO } from '../../../helpers/fixtures.js';
import { expectRejection } from '../../helpers/errors.js';
import { temporaryFolder } from '../../helpers/temporary.js';

const FILE = path.join(MICRO, 'clips.safetensors');
const SIZE = { frames: 17, height: 128, width: 128 };

describe('clips of a .safetensors file', () => {
  it('come one at a time', async () => {
    const clips = await openClips(FILE, SIZE);
    const { tensors, metadata } = await readSafetensors(FILE);
    const all = tensors.get('clips')?.data as Uint8Array;
    expect(clips.count).toBe(4);
    expect(clips.prompts).toEqual(JSON.parse(metadata.prompts as string));
    for (const index of [3, 0, 2]) {
      const { data, ...size } = await clips.video(index);
      expect(size).toEqual(SIZE);
      expect(data.byteLength).toBe(data.buffer.byteLength);
      expect(Buffer.compare(data, all.subarray(index * data.length, (index + 1) * data.length))).toBe(0);
    }
    await clips.close();
    await expect(clips.video(1)).rejects.toThrow();
  });

  it('of another size are refused', async () => {
    await expect(openClips(FILE, { ...SIZE, width: 64 })).rejects.toMatchObject({
      code: 'CLIPS_INVALID',
      message: expect.stringContaining('clips of 17 x 128 x 128, and the pipeline makes 17 x 128 x 64'),
    });
  });

  const clips: SafeTensor = { dtype: 'U8', shape: [2, 1, 2, 2, 3], data: new Uint8Array(24) };
  it.each<[string, Record<string, SafeTensor>, Record<string, string>]>([
    ['no clips', {}, { prompts: '[]' }],
    ['clips of floats', { clips: { ...clips, dtype: 'F32', data: new Float32Array(24) } }, { prompts: '["a", "b"]' }],
    ['clips of another rank', { clips: { ...clips, shape: [2, 2, 2, 3] } }, { prompts: '["a", "b"]' }],
    ['grey clips', { clips: { ...clips, shape: [6, 1, 2, 2, 1] } }, { prompts: '["a", "b"]' }],
    ['too few prompts', { clips }, { prompts: '["a"]' }],
    ['prompts that are no list', { clips }, { prompts: 'a' }],
    ['prompts that are no texts', { clips }, { prompts: '[1, 2]' }],
    ['half a surrogate pair', { clips }, { prompts: '["a", "\\ud800"]' }],
    ['no prompts', { clips }, {}],
    ['none of either', { clips: { ...clips, shape: [0, 1, 2, 2, 3], data: new Uint8Array(0) } }, { prompts: '[]' }],
  ])('are refused where the file holds %s', async (_, tensors, metadata) => {
    const file = path.join(await temporaryFolder(), 'clips.safetensors');
    const data = (tensor: SafeTensor): SafeTensor => {
      const size = tensor.shape.reduce((a, b) => a * b, 1);
      return { ...tensor, data: tensor.data.subarray(0, size) as SafeTensor['data'] };
    };
    await writeSafetensors(file, {
      tensors: new Map(Object.entries(tensors).map(([name, tensor]) => [name, data(tensor)])),
      metadata,
    });
    await expectRejection(openClips(file, { frames: 1, height: 2, width: 2 }), 'CLIPS_INVALID');
  });

  it('may be nowhere', () => expectRejection(openClips('nowhere', SIZE), 'NOT_FOUND'));
});
