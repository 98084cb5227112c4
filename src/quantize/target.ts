export const TARGETS = ['tensorrt', 'ort-cpu'] as const;

/** The runtime a quantized graph is written for. */
export type Target = (typeof TARGETS)[number];

export interface TargetTraits {
  readonly activation: 'int8' | 'uint8';
  /** One Q/DQ pair for every consumer. */
  readonly unsharedActivations: boolean;
  readonly why: string;
}

/**
 * What each runtime turns into integer kernels. All take symmetric INT8 weights with one scale for each output channel.
 * - tensorrt: symmetric INT8 activations, one static scale a tensor, zero points 0 (explicit quantization, TensorRT 10 and 11).
 * - ort-cpu: affine UINT8 activations (the AVX512-VNNI instruction multiplies U8 by S8), and Q nodes with one consumer each.
 */
export const TARGET_TRAITS: Record<Target, TargetTraits> = {
  tensorrt: { activation: 'int8', unsharedActivations: false, why: 'symmetric INT8, one scale a tensor' },
  'ort-cpu': { activation: 'uint8', unsharedActivations: true, why: 'affine UINT8, one scale a tensor' },
};
