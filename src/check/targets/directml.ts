import { float, integer, type Rule, weightsOnly } from '../verdict.js';
import { becomesNBits, fusionObstacles, kernelOf } from './onnxruntime.js';

const FLOATS: ReadonlySet<string | undefined> = new Set(['float32', 'float16']);

/**
 * The DirectML provider of onnxruntime, on x64: the fusions of the CPU provider but for Gemm, with kernels for FP16 too, and without the step that
 * makes INT8 activations UINT8. Read in its sources; never run.
 */
export const directml: Rule = (product, checked) => {
  const { form, node, type, activation } = product;
  if (form === 'integer') return integer(node.opType);
  if (form === 'activation') return float('its weight is in floats');
  if (form === 'weights') {
    return becomesNBits(product, checked)
      ? weightsOnly('MatMulNBits')
      : weightsOnly('DequantizeLinear', 'dequantized at every run');
  }
  const obstacles = [
    ...(FLOATS.has(type) ? [] : [`a product of ${type ?? 'an unknown type'} has no kernel`]),
    ...(node.opType === 'Gemm' ? ['Gemm is fused for the CPU alone'] : []),
    ...(activation?.codes === 'int8'
      ? ['INT8 activations are fused only with the session option session.qdqisint8allowed']
      : []),
    ...fusionObstacles(product, checked),
  ];
  return obstacles.length > 0 ? float(...obstacles) : integer(kernelOf(product, checked));
};
