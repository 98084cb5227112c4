import { forwardFlops } from '../analyze/flops.js';
import { findLinears } from '../analyze/linears.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import { loadGraph } from '../onnx/load.js';
import { NORMALIZE } from '../passes/normalize.js';
import { runPasses } from '../passes/pass.js';
import { tokensOf } from '../pipeline/geometry.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import type { PipelineShape } from '../pipeline/open.js';
import type { Metric } from '../report/results.js';

/** The Amdahl bound of a quantized pipeline at one video size. */
export async function speedBound(
  reference: PipelineFolder,
  quantized: PipelineFolder,
  { latents, patch }: PipelineShape,
  textTokens: number,
): Promise<Metric> {
  const [before, after] = await Promise.all(
    [reference, quantized].map(async (folder) => {
      const model = await loadGraph(folder.modelPath('transformer'));
      runPasses(model, NORMALIZE);
      return { linears: findLinears(model.graph), index: indexGraph(model.graph) };
    }),
  );
  if (!before || !after) throw new Error('two pipelines are needed');
  // A quantized linear's weight comes out of a DequantizeLinear, or is one of codes, so findLinears no longer lists it.
  const left = new Set(after.linears.map(({ output }) => output));
  const int8 = before.linears.filter(({ output }) => !left.has(output) && !multipliesFloats(output, after.index));
  const names = new Set(int8.map(({ output }) => output));
  const { bound } = forwardFlops(before.linears, tokensOf(latents, patch), textTokens, names);
  return {
    value: Number.isFinite(bound) ? bound : null,
    unit: 'x',
    better: 'higher',
    n: 1,
    note: 'the most a forward of this shape can gain if INT8 products run twice as fast (Amdahl)',
  };
}

/** Whether a value is a product whose weight alone is quantized, or the Cast of one. */
function multipliesFloats(output: string, { producers }: Pick<GraphIndex, 'producers'>): boolean {
  const node = producers.get(output);
  if (node?.opType === 'Cast') return multipliesFloats(node.inputs[0] ?? '', { producers });
  const isProduct = node?.opType === 'MatMul' || node?.opType === 'Gemm' || node?.opType === 'Conv';
  return isProduct && producers.get(node.inputs[0] ?? '')?.opType !== 'DequantizeLinear';
}
