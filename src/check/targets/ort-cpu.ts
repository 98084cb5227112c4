import type { CheckedGraph, Dequantized, QuantizedProduct } from '../products.js';
import { float, integer, type Rule, weightsOnly } from '../verdict.js';
import { becomesNBits, fusionObstacles, kernelOf } from './onnxruntime.js';

/** The CPU provider of onnxruntime, on x64. */
export const ortCpu: Rule = (product, checked) => {
  switch (product.form) {
    case 'integer':
      return integerOperator(product, checked);
    case 'activation':
      return float('its weight is in floats');
    case 'weights':
      return becomesNBits(product, checked)
        ? weightsOnly('MatMulNBits', 'with its activation in INT8, a scale for every 32 values')
        : weightsOnly('DequantizeLinear', 'dequantized at every run');
    case 'qdq': {
      const obstacles = [
        ...(product.type === 'float32' ? [] : [`a product of ${product.type ?? 'an unknown type'} computes in FP32`]),
        ...fusionObstacles(product, checked),
        ...signedObstacles(product, checked),
      ];
      return obstacles.length > 0 ? float(...obstacles) : integer(kernelOf(product, checked));
    }
  }
};

function integerOperator({ node }: QuantizedProduct, checked: CheckedGraph) {
  const isSigned = checked.types.get(node.inputs[0] ?? '') === 'int8';
  return node.opType === 'MatMulInteger' && isSigned
    ? float('MatMulInteger of INT8 by INT8 runs without vector instructions, slower than a product of floats')
    : integer(node.opType);
}

/**
 * INT8 activations are made UINT8 first, which takes a pair of their own; only QGemm takes them as they are. Pairs that are alike become one.
 */
function signedObstacles({ node, activation }: QuantizedProduct, checked: CheckedGraph): string[] {
  if (activation?.codes !== 'int8' || node.opType === 'Gemm') return [];
  const { quantizer } = activation;
  if (!quantizer) return ['its INT8 activation is not made by a QuantizeLinear, and stays INT8'];
  const pairs = twins(activation, checked);
  const isShared = pairs.length > 1 || checked.readers(activation.node.outputs[0] ?? '').length > 1;
  const isRead = checked.isExposed(activation.node.outputs[0] ?? '') || checked.isExposed(quantizer.outputs[0] ?? '');
  const [before, after] = [quantizer.inputs[2], activation.zeroPoint?.name];
  return [
    ...(isShared || isRead ? ['its INT8 activation is read by others too, and so not made UINT8'] : []),
    ...(before && after ? [] : ['its INT8 activation has no explicit zero point, and so is not made UINT8']),
    ...(before && after && before !== after
      ? ['QuantizeLinear and DequantizeLinear of its INT8 activation have different zero points']
      : []),
  ];
}

/** DequantizeLinears of what is quantized alike: same value, scale and zero point. */
function twins({ quantizer }: Dequantized, checked: CheckedGraph) {
  const key = quantizer?.inputs.join('\0');
  return checked
    .readers(quantizer?.inputs[0] ?? '')
    .filter((node) => node.opType === 'QuantizeLinear' && node.inputs.join('\0') === key)
    .flatMap((node) => checked.readers(node.outputs[0] ?? ''));
}
