import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Model } from '../../../src/ir/graph.js';
import { graphText } from '../../../src/ir/text.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { computeFloat16 } from '../../../src/passes/compute-float16.js';
import { convertOpset } from '../../../src/passes/convert-opset.js';
import { fuseTransposedWeights } from '../../../src/passes/fuse-transposed-weights.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { observeActivations } from '../../../src/passes/observe-activations.js';
import type { Pass } from '../../../src/passes/pass.js';
import { quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { roundWeights } from '../../../src/passes/round-weights.js';
import { isSmoothable, smoothActivations } from '../../../src/passes/smooth-activations.js';
import { storeFloat16 } from '../../../src/passes/store-float16.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import { readVariants, unpackVariant } from '../../helpers/variants.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();
const variants = await readVariants();

const INT8 = { dtype: 'int8', scale: 0.5, zeroPoint: 0 } as const;

/** Every pass, in an order in which each has something to do, made for the model as it is when its turn comes. */
const PASSES: readonly ((model: Model) => Pass)[] = [
  ...NORMALIZE.map((pass) => () => pass),
  () => convertOpset(21),
  ({ graph }) => {
    const linears = findLinears(graph).filter((linear) => isSmoothable(linear) && linear.role.startsWith('blocks.'));
    const activations = linears.map((linear) => ({
      linears: [linear],
      factors: new Float32Array(linear.inFeatures).fill(2),
    }));
    return smoothActivations({ activations, writable: linears, changed: new Map() });
  },
  ({ graph }) =>
    quantizeLinears(
      findLinears(graph)
        .filter(({ role }) => role.includes('.ffn.'))
        .map((linear) => ({ linear, activation: INT8 })),
    ),
  ({ graph }) =>
    computeFloat16({
      linears: findLinears(graph).filter(({ role }) => role.includes('.attn1.')),
      attention: true,
      ranges: new Map(),
      overflow: [],
    }),
  ({ graph }) => {
    const kept = findLinears(graph).filter(
      ({ role, weight }) => role.includes('.attn2.') && weight.dtype === 'float32',
    );
    return storeFloat16(new Set(kept.map(({ weight }) => weight.name)));
  },
  () => topologicalSort,
  () => removeUnused,
  ({ graph }) => {
    const [linear] = findLinears(graph);
    const value = { value: linear?.activation ?? '', channels: linear?.inFeatures ?? 0, dtype: linear?.computeType };
    return observeActivations({ values: [value], tokens: 4, outputs: [], magnitudes: [linear?.output ?? ''] });
  },
  () => fuseTransposedWeights,
  () => roundWeights,
];

describe.each(variants.map(({ name }) => name))('passes over %s', async (name) => {
  await unpackVariant(name, path.join(folder, name));
  const model = await loadGraph(path.join(folder, name, 'transformer', 'model.onnx'));

  it('say in one line what they did, and do nothing the second time', () => {
    for (const make of PASSES) {
      const pass = make(model);
      const before = graphText(model);
      const did = pass.run(model);
      const once = graphText(model);
      expect(did === undefined, `${pass.name} said ${did}`).toBe(once === before);
      expect(did ?? '', pass.name).not.toMatch(/\n/);
      expect(pass.run(model), `${pass.name}, the second time`).toBeUndefined();
      expect(graphText(model), pass.name).toBe(once);
    }
  });
});
