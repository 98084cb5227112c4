import type { CheckedGraph, QuantizedProduct } from '../products.js';
import { float, integer, type Rule, type Verdict, weightsOnly } from '../verdict.js';
import { becomesNBits } from './onnxruntime.js';

/**
 * The CUDA provider of onnxruntime. Its one integer product is MatMulInteger of INT8 by INT8 (core/providers/cuda/math/matmul_integer.cc, and the
 * kernels that onnxruntime-gpu 1.30 registers); its QDQ rules make weight-only products alone. Read; never run.
 */
export const ortCuda: Rule = (product, checked) => {
  switch (product.form) {
    case 'integer':
      return integerOperator(product, checked);
    case 'qdq':
    case 'activation':
      return float(
        'QuantizeLinear and DequantizeLinear are fused into no product: they round, and it multiplies floats',
      );
    case 'weights':
      return becomesNBits(product, checked)
        ? weightsOnly('MatMulNBits', 'dequantized at every run that has more than 16 rows')
        : weightsOnly('DequantizeLinear', 'dequantized at every run');
  }
};

function integerOperator({ node }: QuantizedProduct, checked: CheckedGraph): Verdict {
  if (node.operator !== 'MatMulInteger') return float(`${node.operator} has no kernel and runs on the CPU`);
  const types = [0, 1].map((input) => checked.types.get(node.inputs[input] ?? ''));
  if (types.some((type) => type !== 'int8')) {
    return float(`MatMulInteger of ${types.map((type) => type ?? 'an unknown type').join(' by ')} has no kernel`);
  }
  const zeroPoints = node.inputs.slice(2).flatMap((name) => checked.parameter(name) ?? []);
  return zeroPoints.every(({ tensor }) => tensor?.elements === 1)
    ? integer('MatMulInteger')
    : float('MatMulInteger takes one zero point for each operand, no vector of them');
}
