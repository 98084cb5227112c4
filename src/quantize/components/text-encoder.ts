import { gatedInputs } from '../../analyze/gated-ffn.js';
import { findLinears, type Linear } from '../../analyze/linears.js';
import { printable, WanqError } from '../../errors.js';
import { isQuantizableFloat } from '../../ir/dtype.js';
import type { Value } from '../../ir/graph.js';
import { findEmbeddings, quantizeEmbeddings } from '../../passes/quantize-embeddings.js';
import { type QuantizedLinear, quantizeLinears, SCALE_OPSET } from '../../passes/quantize-linears.js';
import { removeUnused } from '../../passes/remove-unused.js';
import { topologicalSort } from '../../passes/topological-sort.js';
import type { PipelineFolder } from '../../pipeline/layout.js';
import { fixedDim } from '../../pipeline/signature.js';
import type { HostTensor } from '../../runtime/tensor.js';
import { RewrittenComponent, type Treatment } from './component.js';

/**
 * The text encoder with weight-only INT8: the input linears of its gated feed-forwards and the token table, which are 3.1 of UMT5-XXL's 5.7
 * billion parameters. Attention and the feed-forward's output linear keep their precision, as in the 8-bit UMT5 of vLLM-Omni: the embeddings of the
 * micro encoder drift twice as far with them.
 *
 * @throws WanqError MODEL_UNSUPPORTED where the graph has no gated feed-forward; those of {@link RewrittenComponent.open}
 */
export function openTextEncoder(folder: PipelineFolder): Promise<RewrittenComponent> {
  return RewrittenComponent.open(folder, 'text_encoder', '--text-encoder w8', async ({ model, path }) => {
    const { graph } = model;
    const linears = findLinears(graph);
    const gated = gatedInputs(graph, linears).filter(
      ({ computeType }) => computeType !== undefined && isQuantizableFloat(computeType),
    );
    if (gated.length === 0) {
      throw new WanqError(
        'MODEL_UNSUPPORTED',
        `${printable(path)} has no gated feed-forward (wi_0, wi_1) among its ${linears.length} linears`,
        { hint: 'export a UMT5 encoder, or leave out --text-encoder' },
      );
    }
    const tables = findEmbeddings(graph);
    const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
    return {
      component: 'text_encoder',
      form: 'w8',
      did: `${gated.length} of ${linears.length} linears${tables.length > 0 ? ' and the token table' : ''} stored as INT8`,
      passes: [
        quantizeLinears(gated.map((linear) => weightOnly(linear, model.opset))),
        quantizeEmbeddings(tables),
        topologicalSort,
        removeUnused,
      ],
      metadata: [
        [
          'wanq.quantized',
          JSON.stringify([...gated.map(({ node }) => node.name), ...tables.map(({ node }) => node.name)]),
        ],
      ],
      sample: async () => Object.fromEntries(inputs.map((input) => [input.name, tokens(input)])),
      runsQuickly: true,
    } satisfies Treatment;
  });
}

/** In the type the linear computes in, where scales of it exist; else in FP32 with Casts around it. */
function weightOnly(linear: Linear, opset: number): QuantizedLinear {
  const halves = linear.computeType === 'float16' && opset >= SCALE_OPSET.float16;
  return { linear, form: 'weights', scaleType: halves ? 'float16' : 'float32' };
}

/** Prompt tokens where the graph leaves their number open. */
const SAMPLE_LENGTH = 16;

/** A prompt of ids that every vocabulary has, without padding: ones where it is a mask. */
function tokens({ name, dtype, dims }: Value): HostTensor {
  const length = dims?.length === 2 ? (fixedDim({ name, dtype, dims }, 1) ?? SAMPLE_LENGTH) : SAMPLE_LENGTH;
  const values = Array.from({ length }, (_, i) => (name.includes('mask') ? 1 : 1 + ((37 * i) % 97)));
  const shape = [1, length];
  return dtype === 'int32'
    ? { dtype, dims: shape, data: Int32Array.from(values) }
    : { dtype: 'int64', dims: shape, data: BigInt64Array.from(values, BigInt) };
}
