import type { DataTypeName } from '../ir/dtype.js';
import type { ScaleType } from '../passes/quantize-linears.js';
import type { FloatStorage } from './options.js';

export const TARGETS = ['tensorrt', 'ort-cpu'] as const;

/** The runtime a quantized graph is written for. */
export type Target = (typeof TARGETS)[number];

export interface TargetTraits {
  readonly activation: 'int8' | 'uint8';
  readonly why: string;
  /** Whether the runtime computes in FP16; one that does not would cast every product to FP32 and back. */
  readonly computesFloat16: boolean;
}

/**
 * What each runtime turns into integer kernels. All take symmetric INT8 weights with one scale for each output channel.
 * - tensorrt: symmetric INT8 activations, one static scale a tensor, zero points 0 (explicit quantization, TensorRT 10 and 11).
 * - ort-cpu: affine UINT8 activations (the AVX512-VNNI instruction multiplies U8 by S8). onnxruntime fuses
 *   pairs that several linears share; INT8 activations it would fuse only where each has a pair of its own.
 */
export const TARGET_TRAITS: Record<Target, TargetTraits> = {
  tensorrt: { activation: 'int8', why: 'symmetric INT8, one scale a tensor', computesFloat16: true },
  'ort-cpu': { activation: 'uint8', why: 'affine UINT8, one scale a tensor', computesFloat16: false },
};

/** Whether what stays float is computed in FP16, and not only stored so. */
export function computesFloat16(target: Target, float: FloatStorage | undefined): boolean {
  return float === 'fp16' && TARGET_TRAITS[target].computesFloat16;
}

/**
 * The type of scales around a linear, which is what it computes in once it is quantized: FP16 where the runtime has kernels for it and the
 * linear computes in it or may, else FP32 with Casts around it.
 */
export function scaleTypeOf(target: Target, computeType: DataTypeName | undefined, mayHalve: boolean): ScaleType {
  const halves = computeType === 'float16' || (computeType === 'float32' && mayHalve);
  return halves && TARGET_TRAITS[target].computesFloat16 ? 'float16' : 'float32';
}
