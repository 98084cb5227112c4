import { constantTensor } from '../../analyze/constants.js';
import type { Node } from '../../ir/graph.js';
import type { GraphIndex } from '../../ir/traverse.js';
import type { ActivationScale } from '../../numerics/int8.js';
import { decodeFloats } from '../../onnx/convert/tile.js';
import type { LoadedModel } from '../../onnx/load.js';

/** The one scale that a QuantizeLinear of the model quantizes a tensor with; undefined where it has one a token, or computes it. */
export async function staticScale(
  quantizer: Node | undefined,
  loaded: LoadedModel,
  index: GraphIndex,
): Promise<ActivationScale | undefined> {
  if (quantizer?.opType !== 'QuantizeLinear') return undefined;
  const [, scaleName = '', zeroName = ''] = quantizer.inputs;
  const scale = constantTensor(scaleName, loaded.model.graph, index);
  if (scale?.elements !== 1) return undefined;
  const [value] = decodeFloats(scale.dtype, await loaded.read(scale), 1);
  // Without a zero point, codes are UINT8 and it is 0.
  const zero = zeroName === '' ? undefined : constantTensor(zeroName, loaded.model.graph, index);
  const dtype = zero?.dtype ?? 'uint8';
  if (value === undefined || (dtype !== 'int8' && dtype !== 'uint8')) return undefined;
  const [code = 0] = zero ? await loaded.read(zero) : [];
  return { dtype, scale: value, zeroPoint: dtype === 'int8' && code > 127 ? code - 256 : code };
}
