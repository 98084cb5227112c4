import type { Linear } from '../analyze/linears.js';
import { WanqError } from '../errors.js';
import type { DataTypeName } from '../ir/dtype.js';
import type { LinearForm, ScaleType } from '../passes/quantize-linears.js';
import type { Activations, FloatStorage } from './options.js';
import type { Int8Precision } from './precision.js';

export const TARGETS = ['ort-cpu', 'tensorrt', 'ort-cuda', 'directml', 'webgpu'] as const;

/** The runtime a quantized graph is written for. */
export type Target = (typeof TARGETS)[number];

export interface TargetTraits {
  /** Codes of activations. */
  readonly activation: 'int8' | 'uint8';
  /** Whether the runtime computes in FP16; one that does not would cast every product to FP32 and back. */
  readonly computesFloat16: boolean;
  /** Whether the runtime would make a Gemm of a quantized product and its bias, and no integer kernel of that. */
  readonly mergesBiases: boolean;
  /** Precisions with INT8 weights that the runtime has kernels for, each with its form in the graph; the first is the default. */
  readonly forms: ReadonlyMap<Int8Precision, LinearForm>;
}

const QDQ = new Map<Int8Precision, LinearForm>([
  ['int8', 'qdq'],
  ['int8-weights', 'weights'],
]);

/**
 * What each runtime turns into integer kernels; docs/targets.md says how that was seen. All take symmetric INT8 weights with one scale for each
 * output channel.
 * - ort-cpu: affine UINT8 activations (the AVX512-VNNI instruction multiplies U8 by S8). onnxruntime fuses
 *   pairs that several linears share; INT8 activations it would fuse only where each has a pair of its own.
 * - tensorrt: symmetric INT8 activations, one static scale a tensor, zero points 0 (explicit quantization, TensorRT 10 and 11).
 * - ort-cuda: no QDQ is fused there; MatMulInteger of INT8 by INT8 with zero points 0 is the one integer product.
 * - directml: the fusions of ort-cpu, which refuse INT8 activations on x64 unless the session allows them.
 * - webgpu: no integer product; weights are dequantized.
 */
export const TARGET_TRAITS: Readonly<Record<Target, TargetTraits>> = {
  'ort-cpu': {
    activation: 'uint8',
    computesFloat16: false,
    mergesBiases: true,
    forms: new Map<Int8Precision, LinearForm>([...QDQ, ['int8-dynamic', 'integer-dynamic']]),
  },
  tensorrt: {
    activation: 'int8',
    computesFloat16: true,
    mergesBiases: false,
    forms: QDQ,
  },
  'ort-cuda': {
    activation: 'int8',
    computesFloat16: true,
    mergesBiases: false,
    forms: new Map<Int8Precision, LinearForm>([
      ['int8-dynamic', 'integer-dynamic'],
      ['int8', 'integer-static'],
      ['int8-weights', 'weights'],
    ]),
  },
  directml: {
    activation: 'uint8',
    computesFloat16: true,
    mergesBiases: true,
    forms: QDQ,
  },
  webgpu: {
    activation: 'int8',
    computesFloat16: true,
    mergesBiases: false,
    forms: new Map<Int8Precision, LinearForm>([['int8-weights', 'weights']]),
  },
};

/**
 * The precision of the linears that a scheme quantizes.
 * @param activations absent: the target's default
 * @throws WanqError USAGE where the target cannot
 */
export function int8Precision(target: Target, activations: Activations | undefined): Int8Precision {
  const { forms } = TARGET_TRAITS[target];
  const [usual] = forms.keys() as IterableIterator<Int8Precision>;
  if (activations === undefined) return usual as Int8Precision;
  const wanted = activations === 'dynamic' ? 'int8-dynamic' : 'int8';
  if (forms.has(wanted)) return wanted;
  const able = TARGETS.filter((other) => TARGET_TRAITS[other].forms.has(wanted));
  const why = forms.size === 1 ? 'it quantizes weights alone' : 'it takes one static scale a tensor';
  throw new WanqError('USAGE', `target ${target} has no ${activations} activations: ${why}`, {
    hint: `leave out --activations, or choose a target that has them: ${able.join(', ')}`,
  });
}

/**
 * What becomes of a linear that is to have a precision. Integer products are of matrices, and of a convolution that keeps its result in floats
 * only TensorRT makes an integer kernel: for other targets its weight alone is quantized.
 *
 * @returns the form, with the precision it amounts to
 * @throws WanqError USAGE where the target does not take the precision at all
 */
export function formOf(
  target: Target,
  wanted: Int8Precision,
  { kind, role }: Pick<Linear, 'kind' | 'role'>,
): { readonly precision: Int8Precision; readonly form: LinearForm } {
  const { forms } = TARGET_TRAITS[target];
  const form = forms.get(wanted);
  if (form === undefined) {
    throw new WanqError('USAGE', `target ${target} does not take ${wanted}, which ${role} is to have`, {
      hint: `give it one of ${[...forms.keys()].join(', ')}, float16, keep`,
    });
  }
  if (kind === 'Conv' && target !== 'tensorrt') return { precision: 'int8-weights', form: 'weights' };
  return { precision: wanted, form };
}

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
