import { float, type Rule, weightsOnly } from '../verdict.js';

/**
 * The WebGPU provider of onnxruntime: DequantizeLinear and products of floats, no QuantizeLinear and no integer product. Seen on SwiftShader by
 * `test/integration/check/webgpu.test.ts`.
 */
export const webgpu: Rule = ({ form, node, type }) => {
  if (form === 'integer')
    return float(`${node.operator} has no kernel and runs on the CPU, with copies there and back`);
  if (form !== 'weights') return float('QuantizeLinear has no kernel and runs on the CPU, with copies there and back');
  const needs = type === 'float16' ? ['the device needs the feature shader-f16'] : [];
  return weightsOnly('DequantizeLinear', 'dequantized at every run', ...needs);
};
