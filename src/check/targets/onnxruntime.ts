import type { Node } from '../../ir/graph.js';
import type { CheckedGraph, Dequantized, QuantizedProduct } from '../products.js';
import { invalidOperand, isPerTensor, listed, scalesOutputs } from '../verdict.js';

/**
 * What keeps onnxruntime's QDQ transformers, which serve its CPU and DirectML providers alike, from making an integer kernel of a product of which
 * both operands are dequantized. Seen on the CPU provider of onnxruntime 1.30 by `test/integration/check/ort-cpu.test.ts`, and written in its
 * core/optimizer: qdq_transformer/selectors_actions/qdq_selectors.cc, qdq_transformer/qdq_propagation.cc, matmul_add_fusion.cc.
 */
export function fusionObstacles(product: QuantizedProduct, checked: CheckedGraph): string[] {
  const { activation, weight } = product;
  if (!activation || !weight) return [];
  return [
    ...[activation, weight].flatMap((operand) => codeObstacles(operand, checked)),
    ...inBetween(activation, 'activation', ACTIVATION_MOVES, checked),
    ...inBetween(weight, 'weight', WEIGHT_MOVES, checked),
    ...shapeObstacles(product),
    ...operatorObstacles(product, checked),
    ...resultObstacles(product, checked),
  ];
}

function codeObstacles(operand: Dequantized, checked: CheckedGraph): string[] {
  const { codes, node } = operand;
  return [
    ...invalidOperand(operand, checked),
    ...(codes === 'int8' || codes === 'uint8' ? [] : [`codes of ${codes ?? 'an unknown type'} have no kernel`]),
    ...(node.intAttribute('block_size', 0) === 0 ? [] : [`${node.name} has scales for blocks`]),
  ];
}

/** Operators that it moves a DequantizeLinear past. */
const ACTIVATION_MOVES = new Set(['Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Slice']);
const WEIGHT_MOVES = new Set(['Transpose']);

function inBetween(
  { between }: Dequantized,
  what: string,
  moves: ReadonlySet<string>,
  checked: CheckedGraph,
): string[] {
  const names = between.filter((node) => !isIdle(node, checked) && !moves.has(node.opType)).map(({ opType }) => opType);
  return names.length === 0 ? [] : [`${listed(names)} between the DequantizeLinear of its ${what} and the product`];
}

/** Whether a node gives what it is given. */
export function isIdle({ opType, inputs, outputs }: Node, { types }: CheckedGraph): boolean {
  if (opType === 'Identity') return true;
  const type = types.get(inputs[0] ?? '');
  return opType === 'Cast' && type !== undefined && type === types.get(outputs[0] ?? '');
}

/** What it fuses all the same, into a kernel that then refuses to run. */
function shapeObstacles(product: QuantizedProduct): string[] {
  const { activation, weight, node } = product;
  const obstacles: string[] = [];
  if (activation?.scale.tensor && !isPerTensor(activation.scale)) {
    obstacles.push('its activation has a scale for each channel: the kernel refuses to run');
  }
  if (node.opType === 'Conv') return obstacles;
  if (weight?.stored && weight.stored.dims.length !== 2) {
    obstacles.push(`its weight has ${weight.stored.dims.length} axes: the kernel refuses to run`);
  } else if (scalesOutputs(product) === false) {
    obstacles.push("the scales of its weight are not those of the product's outputs: the kernel refuses to run");
  }
  return obstacles;
}

function operatorObstacles({ node }: QuantizedProduct, checked: CheckedGraph): string[] {
  switch (node.operator) {
    case 'Gemm': {
      const bias = node.inputs[2] ?? '';
      const isInteger = checked.index.producers.get(bias)?.opType === 'DequantizeLinear';
      return bias === '' || isInteger ? [] : ['a Gemm with a bias of floats has no integer kernel'];
    }
    case 'MatMul': {
      const add = checked.gemms.addBehind(node);
      return add ? [`it is made a Gemm with what ${add.name || 'the Add behind it'} adds, a bias of floats`] : [];
    }
    case 'Conv':
      return isQuantizedAgain(node, checked) ? [] : ['a Conv has an integer kernel only where its result is quantized'];
    default:
      return [`${node.operator} is not fused`];
  }
}

function isQuantizedAgain(node: Node, checked: CheckedGraph): boolean {
  return checked.readers(node.outputs[0] ?? '').some(({ opType }) => opType === 'QuantizeLinear');
}

function resultObstacles({ node }: QuantizedProduct, checked: CheckedGraph): string[] {
  const output = node.outputs[0] ?? '';
  const isRead = checked.readers(output).length > 1 || checked.isExposed(output);
  return isRead && isQuantizedAgain(node, checked) ? ['its result is quantized, and read as floats too'] : [];
}

/** The operator that takes a product's place. */
export function kernelOf({ node }: QuantizedProduct, checked: CheckedGraph): string {
  if (node.opType === 'Gemm') return 'QGemm';
  if (node.opType === 'Conv') return 'QLinearConv';
  return isQuantizedAgain(node, checked) ? 'QLinearMatMul' : 'MatMulIntegerToFloat';
}

/** Whether a product by a dequantized weight becomes a MatMulNBits, as it does on the CPU, CUDA and DirectML providers. */
export function becomesNBits(product: QuantizedProduct, checked: CheckedGraph): boolean {
  const { node, weight } = product;
  if (!weight?.stored || (node.operator !== 'MatMul' && node.operator !== 'Gemm')) return false;
  const { stored, scale, zeroPoint, between } = weight;
  const isConstant = scale.tensor !== undefined && (!zeroPoint || zeroPoint.tensor !== undefined);
  const isDirect = between.every((step) => step.opType === 'Transpose' || isIdle(step, checked));
  const isOnly = checked.readers(weight.node.outputs[0] ?? '').length === 1;
  const isScaled = scale.tensor?.dims.length === 0 || (scale.tensor?.elements !== 1 && scalesOutputs(product) === true);
  const isPlain = node.opType === 'MatMul' || ['transA', 'transB'].every((name) => node.intAttribute(name, 0) === 0);
  return stored.dims.length === 2 && isConstant && isDirect && isOnly && isScaled && isPlain;
}
