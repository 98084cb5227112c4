import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { blockBoundaries } from '../../src/analyze/boundaries.js';
import { findLinears } from '../../src/analyze/linears.js';
import { blockOf } from '../../src/analyze/roles.js';
import type { Model, Node } from '../../src/ir/graph.js';
import { asBytes, Tensor } from '../../src/ir/tensor.js';
import { indexGraph } from '../../src/ir/traverse.js';
import { float32ToHalf } from '../../src/numerics/half.js';
import { deriveSeed, randn } from '../../src/numerics/rng.js';
import { decodeModel, encodeModel } from '../../src/onnx/codec.js';
import { removeUnused } from '../../src/passes/remove-unused.js';
import { writeFully } from '../../src/util/files.js';
import { ROOT } from './paths.js';

/** The exporter's graphs in fixtures/full-shape, whose weights are made here. */
export const SHAPES = ['2-blocks-fp32', '5b-fp32', '5b-fp16'] as const;

export type Shape = (typeof SHAPES)[number];

const DATA = 'model.onnx_data';
const PAGE = 4096;

export interface MadeModel {
  readonly folder: string;
  readonly blocks: number;
  readonly dataBytes: number;
}

/**
 * Writes a pipeline folder with a transformer of the 5B's widths and pseudo-random weights. It has no text encoder and no VAE: calibrate it
 * with --synthetic-inputs.
 *
 * @param blocks keep only the first blocks of the graph
 */
export async function makeFullShape(
  shape: Shape,
  folder: string,
  options: { readonly blocks?: number | undefined; readonly onProgress?: (done: number, total: number) => void } = {},
): Promise<MadeModel> {
  const source = path.join(ROOT, 'fixtures', 'full-shape', shape);
  const model = decodeModel(gunzipSync(await readFile(path.join(source, 'model.onnx.gz'))));
  if (options.blocks !== undefined) keepBlocks(model, options.blocks);
  const blocks = blockBoundaries(model.graph).length - 1;
  const transformer = path.join(folder, 'transformer');
  await mkdir(transformer, { recursive: true });
  const config = JSON.parse(await readFile(path.join(source, 'config.json'), 'utf8')) as Record<string, unknown>;
  await writeFile(path.join(transformer, 'config.json'), JSON.stringify({ ...config, num_layers: blocks }, null, 2));
  const dataBytes = await writeWeights(model, path.join(transformer, DATA), options.onProgress);
  await writeFile(path.join(transformer, 'model.onnx'), encodeModel(model));
  const index = { _class_name: 'WanPipeline', transformer: ['diffusers', 'WanTransformer3DModel'] };
  await writeFile(path.join(folder, 'model_index.json'), JSON.stringify(index, null, 2));
  return { folder, blocks, dataBytes };
}

/** Cuts the blocks after the first `count` out: what read the last block's hidden states reads those of block `count` - 1. */
export function keepBlocks(model: Model, count: number): void {
  const { graph } = model;
  const cuts = blockBoundaries(graph);
  const blocks = cuts.length - 1;
  if (!Number.isInteger(count) || count < 1 || count > blocks) {
    throw new Error(`the graph has ${blocks} blocks: keep 1 to ${blocks}`);
  }
  if (count === blocks) return;
  const { producers } = indexGraph(graph);
  const lastLinear = new Map<number, number>();
  for (const { role, node } of findLinears(graph)) {
    const block = blockOf(role);
    if (block !== undefined) lastLinear.set(block, graph.nodes.indexOf(node));
  }
  // The narrowest place after the last block lies behind the output norm. All blocks are built alike, so the last one's hidden states come as
  // many nodes after its last linear as the first one's do.
  const distance = positionOf(ownValue(1)) - (lastLinear.get(0) as number);
  const [kept, dropped] = [count - 1, blocks - 1].map((block) => (lastLinear.get(block) as number) + distance);
  const [from, to] = [graph.nodes[kept as number], graph.nodes[dropped as number]];
  if (!from || !to || from.opType !== to.opType) throw new Error('the blocks are not built alike');
  const tail = graph.nodes.slice((dropped as number) + 1);
  for (const node of tail) {
    node.inputs = node.inputs.map((name) => (name === to.outputs[0] ? (from.outputs[0] as string) : name));
  }
  graph.nodes = [...graph.nodes.slice(0, (kept as number) + 1), ...tail];
  removeUnused.run(model);

  function positionOf(value: string): number {
    return graph.nodes.indexOf(producers.get(value) as Node);
  }

  /** The one value that a block makes for its successor alone. */
  function ownValue(cut: number): string {
    const shared = new Set([...(cuts[cut - 1]?.crossing ?? []), ...(cuts[cut + 1]?.crossing ?? [])]);
    const own = (cuts[cut]?.crossing ?? []).filter((name) => !shared.has(name));
    if (own.length !== 1) throw new Error(`cannot tell the hidden states after block ${cut - 1}: ${own.join(', ')}`);
    return own[0] as string;
  }
}

/** Values are drawn from a pool of normal ones: making 5 G of them anew would take longer than writing them. */
const POOL = 1 << 22;
/** Elements taken from one place of the pool. */
const PIECE = 1 << 20;

async function writeWeights(
  model: Model,
  file: string,
  onProgress: ((done: number, total: number) => void) | undefined,
): Promise<number> {
  const { graph } = model;
  const external = [...graph.initializers.values()].filter(({ data }) => data.kind === 'external');
  const total = external.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const pool = randn(0, POOL);
  const handle = await open(file, 'wx');
  let [end, done] = [0, 0];
  try {
    for (const [i, tensor] of external.entries()) {
      const offset = Math.ceil(end / PAGE) * PAGE;
      const { mean, deviation } = distribution(tensor);
      for (let start = 0; start < tensor.elements; start += PIECE) {
        const length = Math.min(PIECE, tensor.elements - start);
        const from = deriveSeed(i, start) % (POOL - length + 1);
        const values = pool.subarray(from, from + length).map((x) => mean + deviation * x);
        const bytes = asBytes(tensor.dtype === 'float16' ? float32ToHalf(values) : values);
        await writeFully(handle, bytes, offset + (tensor.byteLength / tensor.elements) * start);
        done += bytes.byteLength;
        onProgress?.(done, total);
      }
      end = offset + tensor.byteLength;
      const data = { kind: 'external', location: DATA, offset, length: tensor.byteLength } as const;
      graph.addInitializer(new Tensor(tensor.name, tensor.dtype, tensor.dims, data));
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return end;
}

/** What keeps activations sane without training: matrices N(0, 1 / fan_in), norm weights around 1, all else small. */
function distribution({ name, dims }: Tensor): { mean: number; deviation: number } {
  if (dims.length === 2) return { mean: 0, deviation: (dims[1] as number) ** -0.5 };
  if (dims.length === 1 && /norm.*weight$/.test(name)) return { mean: 1, deviation: 0.1 };
  return { mean: 0, deviation: 0.02 };
}
