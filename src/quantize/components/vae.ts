import { findLinears, type Linear } from '../../analyze/linears.js';
import { dataInputs, walkBack } from '../../analyze/structure/flow.js';
import { printable, WanqError } from '../../errors.js';
import type { Graph, Node, Value } from '../../ir/graph.js';
import { indexGraph } from '../../ir/traverse.js';
import { randn } from '../../numerics/rng.js';
import { computeFloat16 } from '../../passes/compute-float16.js';
import { removeUnused } from '../../passes/remove-unused.js';
import { storeFloat16 } from '../../passes/store-float16.js';
import { topologicalSort } from '../../passes/topological-sort.js';
import type { PipelineFolder, VaeConfig } from '../../pipeline/layout.js';
import { fixedDim } from '../../pipeline/signature.js';
import { fromFloat32, type HostTensor } from '../../runtime/tensor.js';
import { computesFloat16, type Target } from '../target.js';
import { RewrittenComponent } from './component.js';

export type VaeHalf = 'vae_decoder' | 'vae_encoder';

/**
 * One half of the VAE with its kernels in FP16. Where the target computes in FP16, so do the convolutions that read normalised values, which are
 * nearly all of the work: no RMS-normalised channel is larger than the root of their number times gamma, so the kernel alone bounds what a
 * convolution sums up to. Norms and their sums, SiLU, the residual stream, attention, and the convolutions that read the stream itself stay FP32,
 * since nothing bounds those. For other targets kernels are stored in FP16 and cast back where they are read.
 *
 * Inputs and outputs of the graph keep their types.
 *
 * @throws WanqError MODEL_UNSUPPORTED where there is no FP32 kernel; those of {@link RewrittenComponent.open}
 */
export function openVae(folder: PipelineFolder, half: VaeHalf, target: Target): Promise<RewrittenComponent> {
  return RewrittenComponent.open(folder, half, '--vae fp16', async ({ model, path }) => {
    const { graph } = model;
    const linears = findLinears(graph).filter(({ weight, computeType }) => {
      return weight.dtype === 'float32' && computeType === 'float32' && weight.elements >= KERNEL_FROM;
    });
    if (linears.length === 0) {
      throw new WanqError('MODEL_UNSUPPORTED', `${printable(path)} has no FP32 kernel to store as FP16`, {
        hint: 'leave out --vae',
      });
    }
    const isNormalized = normalizedValues(graph);
    const computed = computesFloat16(target, 'fp16')
      ? linears.filter(({ activation }) => isNormalized(activation))
      : [];
    const shared = new Set(computed.map(({ weight }) => weight.name));
    const stored = linears.map(({ weight }) => weight.name).filter((name) => !shared.has(name));
    const [input] = graph.inputs.filter(({ name }) => !graph.initializers.has(name)) as [Value];
    const config = await folder.vaeConfig();
    return {
      component: half,
      form: 'fp16',
      did: description(linears, computed),
      passes: [
        computeFloat16({ linears: computed, attention: false, ranges: new Map(), overflow: [] }),
        storeFloat16(new Set(stored)),
        topologicalSort,
        removeUnused,
      ],
      metadata: [['wanq.target', target]],
      sample: async () => ({ [input.name]: sampleOf(half, input, config) }),
      runsQuickly: pixelsOf(half, input, config) <= QUICK_PIXELS,
    };
  });
}

/** Smaller constants are biases and gammas: nothing to gain. */
const KERNEL_FROM = 1024;

/** Pixels of a video that a CPU decodes in seconds: 17 frames of 176 x 176. */
const QUICK_PIXELS = 2 ** 19;

function description(linears: readonly Linear[], computed: readonly Linear[]): string {
  const kernels = new Set(linears.map(({ weight }) => weight.name)).size;
  const how =
    computed.length > 0
      ? `${computed.length} of ${linears.length} products computed in it`
      : 'cast back to FP32 where they are read';
  return `${kernels} kernels stored as FP16, ${how}`;
}

const PRODUCTS = /^(Conv|ConvTranspose|MatMul|FusedMatMul|Gemm|Einsum|Attention)$/;

/** Nodes from a sum over channels to what is divided by it. */
const WINDOW = 8;

/** Tells which values are bounded by a normalization: those computed of normalised values and constants, without a product between. */
function normalizedValues(graph: Graph): (value: string) => boolean {
  const index = indexGraph(graph);
  const inputs = new Set(graph.inputs.map(({ name }) => name));
  const known = new Map<string, boolean>();
  const isSum = (value: string): boolean => {
    let found = false;
    walkBack(value, index, WINDOW, ({ opType }) => {
      found ||= /^Reduce(L2|Mean|Sum|SumSquare)$/.test(opType);
      return !found && !PRODUCTS.test(opType);
    });
    return found;
  };
  const normalizes = ({ opType, inputs: [, second = ''] }: Node): boolean =>
    /Normalization$/.test(opType) || ((opType === 'Div' || opType === 'Mul') && isSum(second));
  const isNormalized = (value: string): boolean => {
    const before = known.get(value);
    if (before !== undefined) return before;
    const node = index.producers.get(value);
    const result = !node
      ? !inputs.has(value) || graph.initializers.has(value)
      : normalizes(node) ||
        (!PRODUCTS.test(node.opType) && dataInputs(node).every((name) => name === '' || isNormalized(name)));
    known.set(value, result);
    return result;
  };
  return isNormalized;
}

/** `[1, channels, frames, height, width]`; small where the graph leaves them open. */
function shapeOf(half: VaeHalf, input: Value, { latents_mean, scale_factor_spatial }: VaeConfig): number[] {
  const fixed = (axis: number, open: number): number => fixedDim(input, axis) ?? open;
  const side = half === 'vae_decoder' ? 4 : 4 * scale_factor_spatial;
  const channels = half === 'vae_decoder' ? latents_mean.length : 3;
  return [1, fixed(1, channels), fixed(2, 1), fixed(3, side), fixed(4, side)];
}

function pixelsOf(half: VaeHalf, input: Value, config: VaeConfig): number {
  const [, , frames, height, width] = shapeOf(half, input, config) as [number, number, number, number, number];
  const factor = half === 'vae_decoder' ? config.scale_factor_temporal * config.scale_factor_spatial ** 2 : 1;
  return frames * height * width * factor;
}

/** Latents of the VAE's own mean and deviation, or a video of noise in [-1, 1]. */
function sampleOf(half: VaeHalf, input: Value, config: VaeConfig): HostTensor {
  const shape = shapeOf(half, input, config);
  const values = randn(
    1,
    shape.reduce((a, b) => a * b, 1),
  );
  const plane = values.length / (shape[1] as number);
  const scaled = values.map((x, i) => {
    if (half === 'vae_encoder') return Math.max(-1, Math.min(1, x / 2));
    const channel = Math.floor(i / plane);
    return x * (config.latents_std[channel] ?? 1) + (config.latents_mean[channel] ?? 0);
  });
  return fromFloat32(scaled, shape, input.dtype);
}
