import { printable, WanqError } from '../errors.js';
import type { Value } from '../ir/graph.js';
import { loadRunnable } from '../onnx/load.js';
import type { Video } from '../pipeline/vae.js';
import type { RuntimeHost, Session } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../runtime/tensor.js';

/** A perceptual distance network, read and checked before anything runs. */
export interface PerceptualFile {
  readonly file: string;
  /** The reference's image and the other's. */
  readonly inputs: readonly [Value, Value];
  readonly output: string;
  /** Most frames that go into one run. */
  readonly batch: number;
}

/** Pixels of a batch: a network like VGG-16 keeps some 1.5 KB for each. */
const BATCH_PIXELS = 2 ** 18;

const FLOATS: ReadonlySet<string | null> = new Set(['float32', 'float16', 'float64']);

/**
 * Reads an LPIPS-style network (Zhang et al. 2018): two inputs `[N, 3, H, W]` in [-1, 1] and one output with N distances, of any rank. The
 * graph's batch is 1 or free.
 *
 * @param size of the frames it will see
 * @throws WanqError PERCEPTUAL_INVALID, NOT_FOUND, NOT_READABLE, MODEL_INVALID
 */
export async function readPerceptual(file: string, size: Pick<Video, 'height' | 'width'>): Promise<PerceptualFile> {
  const { graph } = await loadRunnable(file);
  const refuse = (why: string, hint = 'export it with python/export_lpips.py'): never => {
    throw new WanqError('PERCEPTUAL_INVALID', `${printable(file)} ${why}`, { hint });
  };
  const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  const [reference, other] = inputs;
  const [output] = graph.outputs;
  if (!reference || !other || inputs.length !== 2) return refuse(`has ${inputs.length} inputs, and not two images`);
  if (!output || graph.outputs.length !== 1) return refuse(`has ${graph.outputs.length} outputs, and not one`);
  for (const { name, dtype, dims } of [reference, other]) {
    const input = `input ${printable(name, 40)}`;
    if (!FLOATS.has(dtype)) refuse(`has ${input} of type ${dtype ?? 'unknown'}, and not of floats`);
    const [batch, channels, ...sides] = dims ?? [];
    if (dims?.length !== 4 || (typeof channels === 'number' && channels !== 3)) {
      refuse(`has ${input} of shape [${dims?.map(String).join(', ') ?? '?'}], and not [N, 3, H, W]`);
    }
    if (typeof batch === 'number' && batch !== 1) refuse(`takes batches of ${batch} only; its batch must be 1 or free`);
    if (sides.some((side, i) => typeof side === 'number' && side !== [size.height, size.width][i])) {
      refuse(
        `takes images of ${sides.join(' x ')} (height x width), and these are ${size.height} x ${size.width}`,
        'evaluate at that size, or export the network for yours',
      );
    }
  }
  const free = [reference, other].every(({ dims }) => typeof dims?.[0] !== 'number');
  const batch = free ? Math.max(1, Math.floor(BATCH_PIXELS / (size.height * size.width))) : 1;
  return { file, inputs: [reference, other], output: output.name, batch };
}

/** A perceptual distance network, loaded. */
export class PerceptualNetwork {
  readonly #file: PerceptualFile;
  readonly #session: Session;

  private constructor(file: PerceptualFile, session: Session) {
    this.#file = file;
    this.#session = session;
  }

  static async open(file: PerceptualFile, host: RuntimeHost, options: SessionOptions): Promise<PerceptualNetwork> {
    return new PerceptualNetwork(file, await host.createSession({ path: file.file }, options));
  }

  /**
   * Mean of the distances of each frame to its counterpart.
   * @throws RangeError where sizes differ
   * @throws WanqError PERCEPTUAL_INVALID where the network gives another number of distances, RUNTIME_FAILED
   */
  async distance(reference: Video, other: Video): Promise<number> {
    const { frames, height, width } = reference;
    if (other.frames !== frames || other.height !== height || other.width !== width) {
      throw new RangeError('videos differ in size');
    }
    const { file, inputs, output, batch } = this.#file;
    let sum = 0;
    for (let first = 0; first < frames; first += batch) {
      const count = Math.min(batch, frames - first);
      const feed = ({ dtype }: Value, video: Video): HostTensor =>
        fromFloat32(planes(video, first, count), [count, 3, height, width], dtype);
      const feeds = { [inputs[0].name]: feed(inputs[0], reference), [inputs[1].name]: feed(inputs[1], other) };
      const { outputs } = await this.#session.run(feeds, [output]);
      const distances = toFloat32(outputs[output] as HostTensor);
      if (distances.length !== count) {
        throw new WanqError(
          'PERCEPTUAL_INVALID',
          `${printable(file)} gives ${distances.length} numbers for ${count} pairs of images, and not one each`,
        );
      }
      sum += distances.reduce((a, b) => a + b, 0);
    }
    return sum / frames;
  }
}

/** Frames as `[count, 3, height, width]` in [-1, 1]. */
function planes({ data, height, width }: Video, first: number, count: number): Float32Array {
  const plane = height * width;
  const values = new Float32Array(count * 3 * plane);
  for (let frame = 0; frame < count; frame++) {
    for (let channel = 0; channel < 3; channel++) {
      const to = (frame * 3 + channel) * plane;
      const from = (first + frame) * plane * 3 + channel;
      for (let i = 0; i < plane; i++) values[to + i] = ((data[from + 3 * i] as number) / 255) * 2 - 1;
    }
  }
  return values;
}
