import path from 'node:path';
import { findLinears } from '../../src/analyze/linears.js';
import { aligned, type Tensor } from '../../src/ir/tensor.js';
import { indexGraph } from '../../src/ir/traverse.js';
import { type LoadedModel, loadModel } from '../../src/onnx/load.js';

/** Every quantized weight of a model against its source. */
export interface WeightComparison {
  readonly weights: number;
  readonly values: number;
  /** Largest |w - code x scale| / (scale / 2): above 1 a value was not rounded to the nearest code. */
  readonly worst: number;
}

/** @param reference, quantized pipeline folders; weights of the reference are float32 `[out, in]` behind a Transpose, or `[in, out]` */
export async function compareWeights(reference: string, quantized: string): Promise<WeightComparison> {
  const [before, after] = await Promise.all(
    [reference, quantized].map((folder) => loadModel(path.join(folder, 'transformer', 'model.onnx'))),
  );
  if (!before || !after) throw new Error('two folders are needed');
  try {
    const { producers } = indexGraph(after.model.graph);
    const initializers = after.model.graph.initializers;
    let [weights, values, worst] = [0, 0, 0];
    for (const { output, weight, transposed, outFeatures } of findLinears(before.model.graph)) {
      const product = producers.get(output);
      const dequantize = producers.get(product?.inputs[1] ?? '');
      if (dequantize?.opType !== 'DequantizeLinear') continue;
      const [codes, scales] = dequantize.inputs.slice(0, 2).map((name) => initializers.get(name) as Tensor);
      if (!codes || !scales) throw new Error(`${output}: no codes`);
      worst = Math.max(
        worst,
        deviation(
          await floats(before, weight),
          new Int8Array((await after.read(codes)).buffer),
          await floats(after, scales),
          { outFeatures, transposed },
        ),
      );
      weights++;
      values += weight.elements;
    }
    return { weights, values, worst };
  } finally {
    await before.close();
    await after.close();
  }
}

const BLOCK = 64;

function deviation(
  weight: Float32Array,
  codes: Int8Array,
  scales: Float32Array,
  { outFeatures, transposed }: { outFeatures: number; transposed: boolean },
): number {
  const inFeatures = weight.length / outFeatures;
  let worst = 0;
  // In blocks, since one of the two is always read across its rows.
  for (let top = 0; top < inFeatures; top += BLOCK) {
    const bottom = Math.min(inFeatures, top + BLOCK);
    for (let left = 0; left < outFeatures; left += BLOCK) {
      const right = Math.min(outFeatures, left + BLOCK);
      for (let o = left; o < right; o++) {
        const scale = scales[o] as number;
        for (let i = top; i < bottom; i++) {
          const value = weight[transposed ? o * inFeatures + i : i * outFeatures + o] as number;
          const off = Math.abs(value - (codes[i * outFeatures + o] as number) * scale) / (scale / 2);
          if (off > worst) worst = off;
        }
      }
    }
  }
  return worst;
}

async function floats(model: LoadedModel, tensor: Tensor): Promise<Float32Array> {
  const { buffer, byteOffset, byteLength } = aligned(await model.read(tensor), 4);
  return new Float32Array(buffer, byteOffset, byteLength / 4);
}
