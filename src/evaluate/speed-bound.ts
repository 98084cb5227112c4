import { forwardFlops } from '../analyze/flops.js';
import { findLinears, type Linear } from '../analyze/linears.js';
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
  const outputs = (linears: readonly Linear[]): Set<string> => new Set(linears.map(({ output }) => output));
  const [before, after] = await Promise.all(
    [reference, quantized].map(async (folder) => {
      const model = await loadGraph(folder.modelPath('transformer'));
      runPasses(model, NORMALIZE);
      return findLinears(model.graph);
    }),
  );
  // A quantized linear's weight comes out of a DequantizeLinear, so findLinears no longer lists it.
  const left = outputs(after as Linear[]);
  const int8 = new Set([...outputs(before as Linear[])].filter((output) => !left.has(output)));
  const { bound } = forwardFlops(before as Linear[], tokensOf(latents, patch), textTokens, int8);
  return {
    value: Number.isFinite(bound) ? bound : null,
    unit: 'x',
    better: 'higher',
    n: 1,
    note: 'the most a forward of this shape can gain if INT8 products run twice as fast (Amdahl)',
  };
}
