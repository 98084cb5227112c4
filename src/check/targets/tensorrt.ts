import type { CheckedGraph, Dequantized, QuantizedProduct } from '../products.js';
import {
  float,
  integer,
  invalidOperand,
  isPerTensor,
  listed,
  type Rule,
  scalesOutputs,
  weightsOnly,
} from '../verdict.js';

/**
 * TensorRT 10 and 11, explicit quantization of a strongly typed network: symmetric INT8 with constant scales, one for an activation, one for each
 * output channel of a constant weight. Read in NVIDIA's documentation ("Explicit Quantization", the ONNX parser's operators.md); never run.
 */
export const tensorrt: Rule = (product, checked) => {
  const { form, node, activation, weight, type } = product;
  if (form === 'integer') return float(`the parser does not take ${node.operator}`);
  if (form === 'activation') return float('its weight is in floats');
  if (form === 'weights') {
    return weightsOnly(
      null,
      'weight-only kernels are for INT4: an INT8 weight is dequantized when the engine is built',
    );
  }
  const operands: [string, Dequantized][] = [];
  if (activation) operands.push(['activation', activation]);
  if (weight) operands.push(['weight', weight]);
  const obstacles = [
    ...operands.flatMap(([what, operand]) => operandObstacles(what, operand, product, checked)),
    ...(activation?.scale.tensor && !isPerTensor(activation.scale)
      ? ['its activation has a scale for each channel']
      : []),
    ...(weight && !weight.stored && !weight.quantizer ? ['its weight is not a constant'] : []),
    ...(scalesOutputs(product) === false ? ["the scales of its weight are not those of the product's outputs"] : []),
    ...(TYPES.has(type) ? [] : [`a product of ${type ?? 'an unknown type'} is not quantized`]),
    ...(node.isOnnx ? [] : [`the parser does not take ${node.operator}`]),
  ];
  return obstacles.length > 0 ? float(...obstacles) : integer(`INT8 ${node.opType}`);
};

const TYPES: ReadonlySet<string | undefined> = new Set(['float32', 'float16', 'bfloat16']);

/** Operators that Q and DQ are moved past, being the same on codes and on values. */
const COMMUTING = new Set(['Identity', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze']);

function operandObstacles(
  what: string,
  operand: Dequantized,
  { type }: QuantizedProduct,
  checked: CheckedGraph,
): string[] {
  const { codes, scale, zeroPoint, between, quantizer } = operand;
  const names = between.map(({ opType }) => opType).filter((opType) => !COMMUTING.has(opType));
  const source = quantizer && checked.types.get(quantizer.inputs[0] ?? '');
  const zero = checked.isZero(zeroPoint);
  return [
    ...invalidOperand(operand, checked),
    ...(codes === 'int8' ? [] : [`its ${what} has codes of ${codes ?? 'an unknown type'}, not INT8`]),
    ...(zero === false ? [`its ${what} has a zero point that is not 0`] : []),
    ...(zeroPoint && !zeroPoint.tensor ? [`the zero point of its ${what} is not a constant`] : []),
    ...(scale.tensor ? [] : [`the scale of its ${what} is not a constant`]),
    ...(source !== undefined && scale.dtype !== undefined && source !== scale.dtype
      ? [`its ${what} of ${source} is quantized with a scale of ${scale.dtype}, which strong typing refuses`]
      : []),
    ...(names.length === 0 && scale.dtype !== undefined && type !== undefined && scale.dtype !== type
      ? [`its ${what} is dequantized to ${scale.dtype}, and the product is of ${type}`]
      : []),
    ...(names.length === 0 ? [] : [`${listed(names)} between the DequantizeLinear of its ${what} and the product`]),
  ];
}
