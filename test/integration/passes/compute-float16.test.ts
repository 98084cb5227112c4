import { createReadStream } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { createGunzip } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import { valueTypes } from '../../../src/analyze/value-types.js';
import { DataType } from '../../../src/ir/dtype.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { graphText } from '../../../src/ir/text.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { randn } from '../../../src/numerics/rng.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { type LoadedModel, loadGraph, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { computeFloat16 } from '../../../src/passes/compute-float16.js';
import { runPasses } from '../../../src/passes/pass.js';
import { float32Tensor, type HostTensor, toFloat32 } from '../../../src/runtime/tensor.js';
import { FULL_SHAPE, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { feedsOf, readCases, readVariants, unpackVariant } from '../../helpers/variants.js';
import { relativeDeviation } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

/** What a caller leaves FP32: the timestep's embedding, which modulates everything. */
const outsideTime = (graph: Graph): Linear[] => findLinears(graph).filter(({ role }) => !role.startsWith('time_'));

function pass(graph: Graph, overflow: string[] = [], ranges: ReadonlyMap<string, number> = new Map()) {
  return computeFloat16({ linears: outsideTime(graph), attention: true, ranges, overflow });
}

/** Ratio of signal to noise in dB. */
function sqnr(actual: Float32Array, expected: Float32Array): number {
  let [signal, noise] = [0, 0];
  for (const [i, x] of expected.entries()) {
    signal += x * x;
    noise += (x - (actual[i] as number)) ** 2;
  }
  return 10 * Math.log10(signal / noise);
}

const isCast = (node: Node | undefined, to: 'float16' | 'float32'): boolean =>
  node?.opType === 'Cast' && node.intAttribute('to', 0) === DataType[to];

/** Casts that undo another, and Casts of one value to one type that stand beside each other. */
function needlessCasts(graph: Graph): string[] {
  const { producers } = indexGraph(graph);
  const types = valueTypes(graph);
  const seen = new Set<string>();
  return graph.nodes.flatMap((node) => {
    if (!isCast(node, 'float16') && !isCast(node, 'float32')) return [];
    const [input = ''] = node.inputs;
    const key = `${input} ${node.intAttribute('to', 0)}`;
    const before = producers.get(input);
    const undoes = isCast(node, 'float16')
      ? isCast(before, 'float32') && types.get(before?.inputs[0] ?? '') === 'float16'
      : isCast(before, 'float16') && types.get(before?.inputs[0] ?? '') === 'float32';
    const twice = seen.has(key);
    seen.add(key);
    return undoes || twice ? [node.name] : [];
  });
}

/** Operators with a FP16 operand. */
function halfOperators(graph: Graph): Set<string> {
  const types = valueTypes(graph);
  const half = graph.nodes.filter(({ inputs }) => inputs.some((name) => types.get(name) === 'float16'));
  return new Set(half.map(({ opType }) => opType));
}

const STAYS_FLOAT32 = [
  'LayerNormalization',
  'Softmax',
  'ReduceMean',
  'Pow',
  'Sqrt',
  'Sin',
  'Cos',
  'Mul',
  'Sub',
  'Div',
  'Sigmoid',
];

describe('the micro transformer', () => {
  const file = path.join(MICRO_PIPELINE, 'transformer', 'model.onnx');
  const feeds = {
    hidden_states: float32Tensor(randn(4, 12 * 3 * 8 * 8), [1, 12, 3, 8, 8]),
    timestep: float32Tensor(Float32Array.of(500), [1]),
    encoder_hidden_states: float32Tensor(randn(5, 9 * 64), [1, 9, 64]),
  };
  let expected: Float32Array;
  let converted: LoadedModel;

  const predict = async (source: string): Promise<Float32Array> => {
    const session = await host.createSession({ path: source }, CPU);
    return toFloat32((await session.run(feeds)).outputs.out_sample as HostTensor);
  };

  const saved = async (loaded: LoadedModel): Promise<string> => {
    const target = await mkdtemp(path.join(folder, 'model-'));
    await saveModel(loaded.model, loaded, target);
    await loaded.close();
    return path.join(target, 'model.onnx');
  };

  beforeAll(async () => {
    expected = await predict(file);
    converted = await loadModel(file);
    // 64 linears without the timestep's three, and two products in each of twelve attentions.
    expect(runPasses(converted.model, [pass(converted.model.graph)])).toMatchObject([
      { did: '88 products and 118 other nodes in FP16, 113 casts added' },
    ]);
  });

  it('computes nearly what it did, in FP16', async () => {
    const actual = await predict(await saved(converted));
    expect(actual).not.toEqual(expected);
    expect(relativeDeviation(actual, expected)).toBeLessThan(2e-2);
    expect(sqnr(actual, expected)).toBeGreaterThan(60);
  });

  it('keeps norms, softmax, modulation, RoPE and the timestep FP32', () => {
    const half = halfOperators(converted.model.graph);
    expect(STAYS_FLOAT32.filter((opType) => half.has(opType))).toEqual([]);
    expect([...half].sort()).toEqual(
      ['Add', 'Cast', 'Conv', 'Gelu', 'MatMul', 'Reshape', 'Shape', 'Transpose'].filter((opType) => half.has(opType)),
    );
    const types = valueTypes(converted.model.graph);
    const gemms = converted.model.graph.nodes.filter(({ opType }) => opType === 'Gemm');
    expect(gemms.map(({ outputs }) => types.get(outputs[0] as string))).toEqual(['float32', 'float32', 'float32']);
  });

  it('states no type that is not so', () => {
    const { graph } = converted.model;
    const bare = valueTypes({ ...graph, valueInfo: [], outputs: [] } as unknown as Graph);
    const wrong = graph.valueInfo.filter(({ name, dtype }) => bare.has(name) && bare.get(name) !== dtype);
    expect(wrong).toEqual([]);
  });

  it('keeps linears with large values FP32 and names the values', async () => {
    const { model } = await loadModel(file);
    const large = outsideTime(model.graph).filter(({ role }) => role.endsWith('.ffn.down'));
    const overflow: string[] = [];
    const ranges = new Map(large.map(({ activation }) => [activation, 20_000]));
    runPasses(model, [pass(model.graph, overflow, ranges)]);
    for (const { activation, node } of large) {
      expect(overflow).toContain(activation);
      expect(node.inputs[0]).toBe(activation);
      expect(model.graph.initializers.get(node.inputs[1] as string)?.dtype).toBe('float32');
    }
    // What GELU makes is too large, and so may be what it reads: the linear before it stays FP32 as well.
    expect(overflow).toHaveLength(2 * large.length);
  });
});

describe('the 5B', () => {
  it('is converted whole: every linear but the timestep, every attention', async () => {
    const packed = createReadStream(path.join(FULL_SHAPE, '5b-fp32', 'model.onnx.gz'));
    const model = decodeModel(new Uint8Array(await buffer(packed.pipe(createGunzip()))));
    const needless = needlessCasts(model.graph);
    expect(runPasses(model, [pass(model.graph)])).toMatchObject([
      { did: expect.stringMatching(/^424 products and \d+ other nodes in FP16, \d+ casts added$/) },
    ]);
    expect(needlessCasts(model.graph).filter((cast) => !needless.includes(cast))).toEqual([]);
    const half = halfOperators(model.graph);
    expect(STAYS_FLOAT32.filter((opType) => half.has(opType))).toEqual([]);
    expect(runPasses(model, [pass(model.graph)])).toEqual([]);
  });
});

/** Those whose inputs are a Wan transformer's. */
const exported = (await readVariants()).filter(({ name }) => name !== 'not-wan');

describe.each(exported.map((variant) => [variant.name, variant] as const))('the export %s', (name, variant) => {
  const file = path.join(folder, name, 'transformer', 'model.onnx');
  beforeAll(() => unpackVariant(name, path.join(folder, name)));

  it('leaves no needless Cast, and is done once', async () => {
    const model = await loadGraph(file);
    const needless = needlessCasts(model.graph);
    runPasses(model, [pass(model.graph)]);
    expect(needlessCasts(model.graph).filter((cast) => !needless.includes(cast))).toEqual([]);
    const text = graphText(model);
    expect(runPasses(model, [pass(model.graph)])).toEqual([]);
    expect(graphText(model)).toBe(text);
  });

  it('computes nearly what torch does', async () => {
    const loaded = await loadModel(file);
    runPasses(loaded.model, [pass(loaded.model.graph)]);
    const target = await mkdtemp(path.join(folder, 'model-'));
    await saveModel(loaded.model, loaded, target);
    const [first] = await readCases(variant);
    if (!first) throw new Error('a variant without a case');
    const { feeds, output } = feedsOf(loaded.model.graph, first);
    await loaded.close();
    const session = await host.createSession({ path: path.join(target, 'model.onnx') }, CPU);
    const actual = toFloat32((await session.run(feeds)).outputs[output] as HostTensor);
    expect(relativeDeviation(actual, first.output)).toBeLessThan(Math.max(2e-3, variant.tolerance));
  });
});
