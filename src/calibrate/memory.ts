import { freemem } from 'node:os';
import { type Boundary, blockBoundaries } from '../analyze/boundaries.js';
import { findLinears, type Linear } from '../analyze/linears.js';
import { WanqError } from '../errors.js';
import type { Graph } from '../ir/graph.js';
import type { Tensor } from '../ir/tensor.js';
import { valuesRead } from '../ir/traverse.js';
import type { LoadedModel } from '../onnx/load.js';
import type { ObservedValue } from '../passes/observe-activations.js';
import { branchesAt } from '../pipeline/denoise.js';
import { tokensOf } from '../pipeline/geometry.js';
import type { TransformerConfig } from '../pipeline/layout.js';
import type { PipelineShape } from '../pipeline/open.js';
import type { TextEncoder } from '../pipeline/text-encoder.js';
import { megabytes } from '../util/units.js';
import { STATISTICS_BYTES_PER_SLICE } from './statistics.js';

/** What a forward is made of, for an estimate of its memory. */
interface ForwardShape {
  readonly tokens: number;
  readonly textTokens: number;
  readonly heads: number;
  /** Features of the widest activation. */
  readonly widest: number;
}

/** Resident set of a child process that holds onnxruntime and no model, bytes. */
const RUNTIME_BASE = 150e6;

/** Copies of a forward's samples on their way to the statistics: in the runtime, in the pipe between the processes, and as garbage of either. */
const SAMPLE_COPIES = 10;

/** A graph file's bytes while it is cut, encoded, sent and loaded. */
const GRAPH_COPIES = 8;

/** Allocator slack and small tensors of a forward, bytes. */
const FORWARD_BASE = 200e6;

/**
 * Activations of one forward on the CPU provider, bytes. An exported graph computes attention as two products with a softmax between, so
 * the scores stand in memory: three copies of them and five of the widest activation cover what was measured from 256 to 2,304 tokens at the
 * 5B's widths (`bench/calibrate.ts` prints estimate and peak side by side).
 */
function activationBytes({ tokens, textTokens, heads, widest }: ForwardShape): number {
  const scores = 4 * heads * tokens * Math.max(tokens, textTokens);
  return 3 * scores + 5 * 4 * tokens * widest + FORWARD_BASE;
}

/**
 * What stays of each block until the end of a run, in hidden states: onnxruntime computes what depends on shapes and text alone ahead of the
 * blocks that read it, and its arena does not give back. 6 to 16 were measured at the 5B's widths.
 */
const RETAINED_HIDDEN_STATES = 16;

/** Statistics of all activations, and the samples of a forward on their way, bytes. */
function statisticsBytes(channels: readonly number[], slices: number, sampleBytes: number): number {
  const each = channels.length * STATISTICS_BYTES_PER_SLICE + 8 * sum(channels);
  return each * slices + SAMPLE_COPIES * sampleBytes;
}

/** Bytes of the initializers that the nodes of each part of a graph read; a part ends at each cut. */
function weightsByPart(graph: Graph, cuts: readonly Boundary[]): number[] {
  const ends = [...cuts.map(({ position }) => position), graph.nodes.length];
  return ends.map((end, i) => {
    const nodes = graph.nodes.slice(i === 0 ? 0 : (ends[i - 1] as number), end);
    const read = new Set(nodes.flatMap((node) => [...valuesRead(node)]));
    let bytes = 0;
    for (const name of read) bytes += residentBytes(graph.initializers.get(name));
    return bytes;
  });
}

/** The CPU provider computes in FP32: weights of other types it casts when it loads them, and keeps beside what is mapped. */
function residentBytes(weight: Tensor | undefined): number {
  if (!weight) return 0;
  const casts = weight.dtype === 'float16' || weight.dtype === 'bfloat16';
  return casts ? weight.byteLength + 4 * weight.elements : weight.byteLength;
}

export interface MemoryNeeds {
  /** All but the weights: both processes, statistics, activations. */
  readonly fixed: number;
  /** Weights of each part between the cuts, and what the blocks in it keep. */
  readonly parts: readonly number[];
}

/** How the transformer is run: at once, or in segments that end at the chosen cuts. */
export interface MemoryPlan {
  readonly cuts: readonly Boundary[];
  /** Estimate of the peak over both processes, bytes. */
  readonly bytes: number;
}

/**
 * Fits the transformer into memory: whole if that is enough, else in as few segments as fit.
 *
 * @param limit what the user allows, bytes; absent: most of what is free, and then the finest segments are run whether they fit or not
 * @throws WanqError NO_MEMORY naming the figure needed
 */
export function planMemory(
  { fixed, parts }: MemoryNeeds,
  boundaries: readonly Boundary[],
  limit: number | undefined,
): MemoryPlan {
  const total = sum(parts);
  const allowed = limit ?? FREE_SHARE * availableMemory();
  if (fixed + total <= allowed) return { cuts: [], bytes: fixed + total };
  const largest = Math.max(...parts);
  if (limit !== undefined && fixed + largest > limit) {
    const what = boundaries.length > 0 ? 'block by block' : 'in one piece (its blocks cannot be cut apart)';
    throw new WanqError(
      'NO_MEMORY',
      `calibrating at this size needs about ${megabytes(fixed + largest)}, run ${what}: ${megabytes(fixed)} for activations and statistics, ${megabytes(largest)} for weights and what a block keeps`,
      { hint: `give --max-memory that much, or a smaller --height, --width or --frames` },
    );
  }
  const cuts: Boundary[] = [];
  let segment = parts[0] ?? 0;
  let most = segment;
  for (const [i, cut] of boundaries.entries()) {
    const next = parts[i + 1] as number;
    // Where nothing stands before the first block, the cut before it would leave an empty segment.
    if (cut.position > 0 && fixed + segment + next > allowed) {
      cuts.push(cut);
      segment = 0;
    }
    segment += next;
    most = Math.max(most, segment);
  }
  return { cuts, bytes: fixed + most };
}

/**
 * The memory plan of a calibration on the CPU provider.
 * @throws WanqError NO_MEMORY where the limit is too small, for the text encoder too
 */
export function memoryPlan(
  {
    loaded,
    values,
    tokens,
    held,
  }: { loaded: LoadedModel; values: readonly ObservedValue[]; tokens: number | 'all'; held: number },
  options: { maxMemory?: number | undefined; buckets: number; guidance: number },
  shape: PipelineShape,
  inputs: { readonly length: number; readonly encoder?: TextEncoder },
  config: TransformerConfig,
): MemoryPlan {
  const { graph } = loaded.model;
  const linears = findLinears(graph);
  const videoTokens = tokensOf(shape.latents, shape.patch);
  const channels = values.map((value) => value.channels);
  const sampled = tokens === 'all' ? videoTokens : Math.min(tokens, videoTokens);
  const branches = branchesAt(options.guidance).length;
  const processes = process.memoryUsage().rss + RUNTIME_BASE + GRAPH_COPIES * loaded.bytes.byteLength;
  const statistics = statisticsBytes(channels, branches * options.buckets, 4 * sampled * sum(channels));
  const width = widthOf(linears);
  const activations = forwardBytes(graph, shape, inputs.length, config, linears);
  refuseTextEncoder(inputs.encoder, processes, options.maxMemory);
  const boundaries = blockBoundaries(graph);
  const kept = RETAINED_HIDDEN_STATES * 4 * videoTokens * width;
  const parts = weightsByPart(graph, boundaries).map((bytes, part, all) =>
    part > 0 && part < all.length - 1 ? bytes + kept : bytes,
  );
  const needs = { fixed: processes + statistics + 4 * held * sum(channels) + activations, parts };
  return planMemory(needs, boundaries, options.maxMemory);
}

/** Hidden channels of a transformer. */
function widthOf(linears: readonly Linear[]): number {
  return Math.max(0, ...linears.filter(({ role }) => role.endsWith('.attn1.out')).map(({ inFeatures }) => inFeatures));
}

/**
 * Estimate of the activations of one forward on the CPU provider, bytes; see {@link activationBytes}. Of a quantized transformer too.
 *
 * @param textTokens of a prompt, padding included
 */
export function forwardBytes(
  graph: Graph,
  { latents, patch }: PipelineShape,
  textTokens: number,
  config: TransformerConfig,
  linears: readonly Linear[] = findLinears(graph),
): number {
  const quantized = [...graph.initializers.values()].filter(({ dtype, dims }) => dtype === 'int8' && dims.length === 2);
  const widest = Math.max(
    0,
    ...linears.map(({ outFeatures }) => outFeatures),
    ...quantized.map(({ dims }) => dims[1] as number),
  );
  // A configuration that does not name the heads is read as diffusers' default for Wan, 128 channels a head.
  const heads = config.num_attention_heads ?? Math.max(1, Math.round(widthOf(linears) / 128));
  return activationBytes({ tokens: tokensOf(latents, patch), textTokens, heads, widest });
}

/** onnxruntime packs a copy of the encoder's weights, and frees the encoder before the transformer is opened. */
const ENCODER_COPIES = 2;

function refuseTextEncoder(encoder: TextEncoder | undefined, processes: number, limit: number | undefined): void {
  if (!encoder || limit === undefined) return;
  const needed = processes + FORWARD_BASE + ENCODER_COPIES * encoder.weightBytes;
  if (needed <= limit) return;
  throw new WanqError('NO_MEMORY', `the text encoder needs about ${megabytes(needed)}`, {
    hint: 'give --max-memory that much, or encode the prompts elsewhere and give --embeddings FILE',
  });
}

/** Share of the free memory to plan with; the rest is the page cache's and other programs'. */
const FREE_SHARE = 0.8;

/** Free memory, within the limit of a container where there is one, bytes. */
function availableMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(freemem(), limit) : freemem();
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
