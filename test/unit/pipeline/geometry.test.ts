import { describe, expect, it } from 'vitest';
import { Graph } from '../../../src/ir/graph.js';
import { latentDims, latentElements, latentShape, type VideoSize } from '../../../src/pipeline/geometry.js';
import { thrownBy } from '../helpers/errors.js';

const VAE = { temporal: 4, spatial: 16 };

/** A decoder whose latents have these dimensions. */
function decoder(frames: number | string, height: number | string, width: number | string): Graph {
  const latents = { name: 'latents', dtype: 'float32', dims: [1, 48, frames, height, width] } as const;
  return new Graph({ name: 'vae', nodes: [], initializers: [], inputs: [latents], outputs: [] });
}

const shapeOf = (size: VideoSize, graph?: Graph) => latentShape(48, VAE, [2, 2], graph, size);

describe('latentShape', () => {
  it('serves the 5B at 121 frames of 1280 x 704 where nothing says otherwise', () => {
    expect(shapeOf({})).toEqual({ channels: 48, frames: 31, height: 44, width: 80 });
    expect(shapeOf({}, decoder('frames', 'height', 'width'))).toEqual(shapeOf({}));
  });

  it.each([
    [
      { frames: 1, height: 32, width: 64 },
      { frames: 1, height: 2, width: 4 },
    ],
    [
      { frames: 5, height: 480, width: 832 },
      { frames: 2, height: 30, width: 52 },
    ],
  ])('of %j is %j', (size, latents) => {
    expect(shapeOf(size)).toEqual({ channels: 48, ...latents });
  });

  it('comes from a decoder of one size', () => {
    expect(shapeOf({}, decoder(5, 8, 12))).toEqual({ channels: 48, frames: 5, height: 8, width: 12 });
    expect(shapeOf({ frames: 17, height: 128, width: 192 }, decoder(5, 8, 12))).toEqual(shapeOf({}, decoder(5, 8, 12)));
    expect(shapeOf({ height: 64, width: 64 }, decoder(5, 'h', 'w'))).toMatchObject({ frames: 5, height: 4, width: 4 });
  });

  it.each<[VideoSize, RegExp]>([
    [{ frames: 120 }, /multiple of 4 plus 1/],
    [{ frames: 4 }, /multiple of 4 plus 1/],
    [{ height: 720 }, /multiple of 32/],
    [{ width: 1000 }, /multiple of 32/],
    [{ width: 16 }, /multiple of 32/],
  ])('refuses %j with a hint', (size, hint) => {
    expect(thrownBy(() => shapeOf(size))).toMatchObject({ code: 'USAGE', hint: expect.stringMatching(hint) });
  });

  it.each<[VideoSize, string]>([
    [{ frames: 21 }, 'frames'],
    [{ height: 160 }, 'height'],
    [{ width: 128 }, 'width'],
  ])('refuses %j where the decoder was exported for another size', (size, side) => {
    const error = thrownBy(() => shapeOf(size, decoder(5, 8, 12)));
    expect(error.code).toBe('USAGE');
    expect(error.message).toContain(side);
  });

  it('uses the patch of either side', () => {
    const shape = latentShape(4, { temporal: 4, spatial: 8 }, [1, 3], undefined, {
      frames: 1,
      height: 8,
      width: 24,
    });
    expect(shape).toEqual({ channels: 4, frames: 1, height: 1, width: 3 });
    expect(() => latentShape(4, VAE, [1, 3], undefined, { frames: 1, height: 16, width: 16 })).toThrow('width of 16');
  });

  it.each<VideoSize>([{ frames: -3 }, { height: 0 }, { width: -32 }])('refuses %j', (size) => {
    expect(thrownBy(() => shapeOf(size)).code).toBe('USAGE');
  });
});

describe('latent dimensions', () => {
  const shape = { channels: 4, frames: 5, height: 6, width: 7 };

  it('come in the order of the graph, one video a batch', () => {
    expect(latentDims(shape)).toEqual([1, 4, 5, 6, 7]);
    expect(latentElements(shape)).toBe(840);
  });
});
