import { printable, WanqError } from '../errors.js';
import type { Model } from '../ir/graph.js';

/** @throws WanqError MODEL_UNSUPPORTED for a graph that this version does not quantize */
export function refuseUnsupported(model: Model, file: string): void {
  const quantized = model.graph.nodes.find(({ opType }) => /^(De)?QuantizeLinear$|^QLinear|Integer$/.test(opType));
  if (quantized) {
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(file)} is quantized already (it has ${quantized.opType})`, {
      hint: 'start from the FP32 model',
    });
  }
  const input = model.graph.inputs[0];
  if (input?.dtype !== 'float32') {
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(file)} computes in ${input?.dtype ?? 'an unknown type'}`, {
      hint: 'this version quantizes FP32 graphs; export the transformer in FP32',
    });
  }
}
