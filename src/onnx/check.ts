import { printable, WanqError } from '../errors.js';
import type { Tensor } from '../ir/tensor.js';
import { halfToFloat32 } from '../numerics/half.js';
import { loadModel } from './load.js';

/**
 * Reads a model that was just written and holds it against itself: every external tensor lies in its file, none overlaps another, and every
 * scale of a QuantizeLinear or DequantizeLinear is a positive finite number, which onnxruntime does not ask for.
 *
 * @throws WanqError MODEL_INVALID, EXTERNAL_DATA_INVALID naming the tensor
 */
export async function checkSaved(file: string): Promise<void> {
  const loaded = await loadModel(file);
  try {
    const { initializers, nodes } = loaded.model.graph;
    await refuseOverlaps([...initializers.values()], (location) => loaded.dataSize(location), file);
    const scales = nodes.flatMap(({ opType, inputs }) =>
      opType === 'QuantizeLinear' || opType === 'DequantizeLinear' ? [inputs[1] as string] : [],
    );
    for (const name of new Set(scales)) {
      const tensor = initializers.get(name);
      if (tensor?.dtype !== 'float32' && tensor?.dtype !== 'float16') continue;
      const { buffer } = new Uint8Array(await loaded.read(tensor));
      const values = tensor.dtype === 'float16' ? halfToFloat32(new Uint16Array(buffer)) : new Float32Array(buffer);
      if (values.every((scale) => scale > 0 && scale < Number.POSITIVE_INFINITY)) continue;
      throw new WanqError('MODEL_INVALID', `${printable(file)}: scale "${printable(name)}" is not positive and finite`);
    }
  } finally {
    await loaded.close();
  }
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
