import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import { roleFamily } from '../../../src/analyze/roles.js';
import { valueTypes } from '../../../src/analyze/value-types.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import { type Model, Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf } from '../../../src/numerics/half.js';
import { MersenneTwister, randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { runPasses } from '../../../src/passes/pass.js';
import { isSmoothable, type SmoothedActivation, smoothActivations } from '../../../src/passes/smooth-activations.js';
import { float32Tensor, type HostTensor, toFloat32 } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { feedsOf, readCases, readVariants, unpackVariant } from '../../helpers/variants.js';
import { floats, relativeDeviation } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

interface Smoothed {
  readonly file: string;
  readonly model: Model;
  readonly did: string | undefined;
  /** Roles of the linears whose input a Mul divides. */
  readonly divided: readonly string[];
  /** Those Muls. */
  readonly muls: number;
}

/** Smooths the inputs of all linears of the blocks by random factors, makes up for it in their weights, and saves the model. */
async function smoothed(source: string, seed: number): Promise<Smoothed> {
  const loaded = await loadModel(source);
  const { model } = loaded;
  runPasses(model, NORMALIZE);
  const linears = findLinears(model.graph).filter(({ role }) => role.startsWith('blocks.'));
  const random = new MersenneTwister(seed);
  const groups = new Map<string, Linear[]>();
  for (const linear of linears) {
    if (!isSmoothable(linear)) continue;
    const key = `${linear.activation} ${linear.computeType}`;
    groups.set(key, [...(groups.get(key) ?? []), linear]);
  }
  const activations = [...groups.values()].map((readers): SmoothedActivation => {
    const [{ inFeatures }] = readers as [Linear];
    return {
      linears: readers,
      factors: Float32Array.from({ length: inFeatures }, () => 2 ** (6 * random.uniform() - 3)),
    };
  });
  const changed = new Map<Node, Linear>();
  const [report] = runPasses(model, [smoothActivations({ activations, writable: linears, changed })]);
  const known = new Map(linears.map((linear) => [linear.node, linear]));
  for (const [node, linear] of changed) {
    multiplyWeight(model, linear, linear.factors.slice((known.get(node) as Linear).factors.length));
  }
  const target = await mkdtemp(path.join(folder, 'model-'));
  await saveModel(model, loaded, target);
  await loaded.close();
  const divided = linears.filter(({ node, activation }) => changed.has(node) && node.inputs[0] !== activation);
  return {
    file: path.join(target, 'model.onnx'),
    model,
    did: report?.did,
    divided: divided.map(({ role }) => role),
    muls: new Set(divided.map(({ node }) => node.inputs[0])).size,
  };
}

/** Puts a Mul for each factor before the weight of a product. */
function multiplyWeight({ graph }: Model, { node, computeType }: Linear, factors: Linear['factors']): void {
  const flipped = node.intAttribute('transB', 0) !== 0;
  factors.forEach(({ along, values: { data, elements } }, i) => {
    if (data.kind !== 'bytes') throw new Error('not in memory');
    const rows = (along === 'in') !== flipped;
    const name = `${node.outputs[0]}_undo_${i}`;
    const values = new Float32Array(data.bytes.slice().buffer);
    graph.addInitializer(
      stored(`${name}_factor`, computeType as DataTypeName, rows ? [elements, 1] : [elements], values),
    );
    const mul = new Node({
      opType: 'Mul',
      name,
      inputs: [node.inputs[1] as string, `${name}_factor`],
      outputs: [name],
    });
    graph.nodes.splice(graph.nodes.indexOf(node), 0, mul);
    node.inputs[1] = name;
  });
}

function stored(name: string, type: DataTypeName, dims: readonly number[], values: Float32Array): Tensor {
  return Tensor.fromBytes(name, type, dims, asBytes(type === 'float16' ? float32ToHalf(values) : values));
}

describe('the micro transformer', async () => {
  const source = path.join(MICRO_PIPELINE, 'transformer', 'model.onnx');
  const feeds = {
    hidden_states: float32Tensor(randn(4, 12 * 3 * 8 * 8), [1, 12, 3, 8, 8]),
    timestep: float32Tensor(Float32Array.of(500), [1]),
    encoder_hidden_states: float32Tensor(randn(5, 9 * 64), [1, 9, 64]),
  };
  const outputs = async (file: string): Promise<Float32Array> => {
    const session = await host.createSession({ path: file }, CPU);
    return floats((await session.run(feeds)).outputs, 'out_sample');
  };
  const made = await smoothed(source, 1);

  it('is smoothed where norms, modulations and values are made, and by a Mul for ffn.down and for the text', () => {
    // Of each of 6 blocks attn1.q/k/v, attn1.out, attn2.q, attn2.out and ffn.up.
    expect(made.did).toBe('smoothed 37 activations, 30 of them where they are made');
    expect(new Set(made.divided.map(roleFamily))).toEqual(
      new Set(['blocks.*.attn2.k', 'blocks.*.attn2.v', 'blocks.*.ffn.down']),
    );
    expect(made.divided).toHaveLength(6 * 3);
    // One for each ffn.down, and one for the text, which all blocks read.
    expect(made.muls).toBe(6 + 1);
  });

  it('computes the same', async () => {
    // Measured: 4e-7.
    expect(relativeDeviation(await outputs(made.file), await outputs(source))).toBeLessThan(2e-6);
  });
});

/** Activations of 13 that are smoothed where they are made, where it is not 10: all but the text's and the inputs of ffn.down. */
const FOLDED: Readonly<Record<string, number>> = {
  // No shapes are stated.
  ...{ torchscript: 2, 'torchscript-nofold': 0, wiped: 2, 'wiped-unoptimized': 2, 'ort-transformers': 0 },
  // Sizes of heads are not.
  onnxslim: 6,
  // A Reshape to two axes, whose shape is computed of the value, stands before each Gemm.
  ...{ gemm: 8, onnxsim: 2 },
  // Every token has a modulation of its own.
  'timestep-tokens': 6,
  // Attentions of onnxruntime's domain; shapes are not stated of values that its tools put in.
  ...{ 'ort-fused': 6, 'contrib-attention': 6, 'ort-all': 6 },
  // Types change, or an If stands, between values and attn.out.
  ...{ 'fp16-islands': 9, 'subgraph-linear': 8 },
};

const exported = (await readVariants()).filter(({ name }) => name !== 'not-wan' && name !== 'quantized');

describe.each(exported.map((variant) => [variant.name, variant] as const))('the export %s', (name, variant) => {
  const source = path.join(folder, name, 'transformer', 'model.onnx');

  it('computes the same with every input of its blocks smoothed', async () => {
    await unpackVariant(name, path.join(folder, name));
    const { file, model, did } = await smoothed(source, 2);
    const [, folded] = did?.match(/^smoothed 1[134] activations, (\d+) of them/) ?? [];
    expect(Number(folded)).toBe(FOLDED[name] ?? 10);
    const [first] = await readCases(variant);
    if (!first) throw new Error('a variant without a case');
    const { feeds, output } = feedsOf(model.graph, first);
    const run = async (of: string): Promise<Float32Array> => {
      const session = await host.createSession({ path: of }, CPU);
      const { outputs } = await session.run(feeds, [output]);
      await session.release();
      return toFloat32(outputs[output] as HostTensor);
    };
    const isHalf = [...valueTypes(model.graph).values()].includes('float16');
    // Measured: 5e-7, and 9e-4 where values are rounded to FP16.
    expect(relativeDeviation(await run(file), await run(source))).toBeLessThan(isHalf ? 2e-3 : 2e-6);
  });
});
