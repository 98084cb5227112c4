import { printable, WanqError } from '../errors.js';
import type { Model } from '../ir/graph.js';
import { sameDims, type Tensor } from '../ir/tensor.js';
import { decodeFloats } from './convert/tile.js';
import { type LoadedModel, loadModel } from './load.js';
import { oddWeights, quantizedNumbers, type WeightNote } from './quantized-numbers.js';

/**
 * Reads a model that was just written and holds it against itself: every external tensor lies in its file, none overlaps another, scales, zero
 * points and codes are what onnxruntime takes for granted, and no constant that wanq made holds NaN or infinity.
 *
 * @param source the model it was made from: what that has, wanq did not make
 * @returns quantized weights with channels that are odd
 * @throws WanqError MODEL_INVALID, EXTERNAL_DATA_INVALID naming the tensor
 */
export async function checkSaved(file: string, source?: Model): Promise<WeightNote[]> {
  const loaded = await loadModel(file);
  try {
    const { model } = loaded;
    await refuseOverlaps([...model.graph.initializers.values()], (location) => loaded.dataSize(location), file);
    const fail = (tensor: string, why: string, more = 0): never => {
      const others = more > 0 ? ` (and ${more} more)` : '';
      throw new WanqError('MODEL_INVALID', `${printable(file)}: "${printable(tensor)}" ${why}${others}`);
    };
    const { defects, weights } = await quantizedNumbers(model, loaded.read, { own: true });
    const [first] = defects;
    if (first) fail(first.tensor, first.why, defects.length - 1);
    if (source) {
      for (const tensor of model.graph.initializers.values()) {
        if (isOwn(tensor, source) && !(await isAllFinite(tensor, loaded))) fail(tensor.name, 'holds NaN or infinity');
      }
    }
    return await oddWeights(weights, loaded.read);
  } finally {
    await loaded.close();
  }
}

/** Whether the source has no such tensor. */
function isOwn({ name, dtype, dims }: Tensor, { graph }: Model): boolean {
  const original = graph.initializers.get(name);
  return !(original?.dtype === dtype && sameDims(original.dims, dims));
}

/** Bytes read at a time. */
const READ_BYTES = 2 ** 23;

async function isAllFinite(tensor: Tensor, { readInto }: LoadedModel): Promise<boolean> {
  const { dtype, byteLength, elements } = tensor;
  if (dtype !== 'float32' && dtype !== 'float16' && dtype !== 'bfloat16') return true;
  // What was converted to FP16 was looked at then.
  if (dtype === 'float16' && byteLength > READ_BYTES) return true;
  const width = byteLength / Math.max(elements, 1);
  for (let start = 0; start < byteLength; start += READ_BYTES) {
    const bytes = new Uint8Array(Math.min(READ_BYTES, byteLength - start));
    await readInto(tensor, start, bytes);
    if (!decodeFloats(dtype, bytes, bytes.length / width).every(Number.isFinite)) return false;
  }
  return true;
}

async function refuseOverlaps(
  tensors: readonly Tensor[],
  sizeOf: (location: string) => Promise<number>,
  file: string,
): Promise<void> {
  const places = tensors
    .flatMap(({ name, data }) => (data.kind === 'external' ? [{ name, ...data }] : []))
    .sort((a, b) => (a.location < b.location ? -1 : a.location > b.location ? 1 : a.offset - b.offset));
  for (const [i, place] of places.entries()) {
    const next = places[i + 1];
    const end = next?.location === place.location ? next.offset : await sizeOf(place.location);
    if (place.offset + place.length <= end) continue;
    throw new WanqError(
      'EXTERNAL_DATA_INVALID',
      `${printable(file)}: tensor "${printable(place.name)}" runs into what follows it`,
    );
  }
}
