import { cp, mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { checkTarget } from '../../../src/check/check.js';
import { DataType } from '../../../src/ir/dtype.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { type QuantizeOptions, type QuantizeSummary, quantize } from '../../../src/quantize/quantize.js';
import type { Scheme } from '../../../src/quantize/scheme.js';
import type { Target } from '../../../src/quantize/target.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';

const LINEARS: Record<Scheme, number> = { ffn: 6 * 2, blocks: 6 * 10 };
const folder = temporaryFolder();
const calibration = path.join(folder, 'calibration.safetensors');
const host = sharedHost();

function calibrateOn(pipeline: string, output: string): Promise<unknown> {
  return calibrate({
    pipeline,
    prompts: ['a small red circle moving left over a dark background'],
    negativePrompt: '',
    steps: 2,
    guidance: 5,
    seed: 0,
    output,
    buckets: 2,
    tokens: 'auto',
    device: 'cpu',
  });
}

beforeAll(() => calibrateOn(MICRO_PIPELINE, calibration));

interface Written {
  readonly summary: QuantizeSummary;
  readonly loaded: LoadedModel;
  /** The graph after onnxruntime's CPU provider optimized it. */
  readonly optimized: Graph;
}

const made = new Map<string, Promise<Written>>();

/** Quantizes the micro pipeline, once for the same options. */
function write(target: Target, scheme: Scheme, more: Partial<QuantizeOptions> = {}): Promise<Written> {
  const name = [target, scheme, ...Object.values(more).map((value) => path.basename(String(value)))].join('-');
  const known = made.get(name) ?? writeAs(name, target, scheme, more);
  made.set(name, known);
  return known;
}

async function writeAs(name: string, target: Target, scheme: Scheme, more: Partial<QuantizeOptions>): Promise<Written> {
  const output = path.join(folder, name);
  const summary = await quantize({
    pipeline: MICRO_PIPELINE,
    calibration,
    output,
    link: true,
    target,
    scheme,
    method: 'minmax',
    percentile: 99.99,
    keep: [],
    ...more,
  });
  const file = path.join(output, 'transformer', 'model.onnx');
  const optimizedModelPath = path.join(folder, `${name}.onnx`);
  const session = await host.createSession({ path: file }, { providers: ['cpu'], optimizedModelPath });
  await session.release();
  return { summary, loaded: await open(file), optimized: (await open(optimizedModelPath)).model.graph };
}

async function open(file: string): Promise<LoadedModel> {
  const loaded = await loadModel(file);
  await loaded.close();
  return loaded;
}

function ofType(graph: Graph, opType: string): Node[] {
  return graph.nodes.filter((node) => node.opType === opType);
}

const isWeight = (graph: Graph, { inputs }: Node): boolean => graph.initializers.has(inputs[0] ?? '');

/** Q/DQ pairs of activations, with their parameters. */
async function activationPairs({ model: { graph }, read }: LoadedModel) {
  const { consumers } = indexGraph(graph);
  const bytesOf = async (name: string | undefined): Promise<Uint8Array> => {
    const tensor = graph.initializers.get(name ?? '');
    if (!tensor) throw new Error(`no initializer ${name}`);
    return (await read(tensor)).slice();
  };
  return Promise.all(
    ofType(graph, 'QuantizeLinear').map(async (node) => {
      const [activation, scale, zeroPoint] = node.inputs;
      const uses = consumers.get(node.outputs[0] ?? '') ?? [];
      const dequantize = uses[0]?.node;
      return {
        activation,
        readers: uses.length,
        sameParameters: dequantize?.inputs[1] === scale && dequantize?.inputs[2] === zeroPoint,
        scale: new Float32Array((await bytesOf(scale)).buffer),
        type: graph.initializers.get(zeroPoint ?? '')?.dtype,
        zeroPoint: (await bytesOf(zeroPoint))[0],
        consumers: (consumers.get(dequantize?.outputs[0] ?? '') ?? []).map((use) => use.node.opType),
      };
    }),
  );
}

async function expectSymmetricWeights({ model: { graph }, read }: LoadedModel, count: number): Promise<void> {
  const { consumers } = indexGraph(graph);
  const nodes = ofType(graph, 'DequantizeLinear').filter((node) => isWeight(graph, node));
  expect(nodes).toHaveLength(count);
  for (const node of nodes) {
    const [values, scales, zeros] = node.inputs.map((name) => graph.initializers.get(name));
    if (!values || !scales || !zeros) throw new Error(`${node.name} lacks an initializer`);
    const channels = values.dims[1] as number;
    expect(node.intAttribute('axis', 0)).toBe(1);
    expect([values.dtype, scales.dims, zeros.dims]).toEqual(['int8', [channels], [channels]]);
    expect(new Int8Array(await read(zeros))).toEqual(new Int8Array(channels));
    const codes = new Int8Array(await read(values));
    const largest = new Array<number>(channels).fill(0);
    codes.forEach((code, i) => {
      largest[i % channels] = Math.max(largest[i % channels] as number, Math.abs(code));
    });
    expect(largest).toEqual(new Array(channels).fill(127));
    expect(consumers.get(node.outputs[0] ?? '')?.map((use) => use.node.opType)).toEqual(['MatMul']);
  }
}

describe.each(['ffn', 'blocks'] as const)('scheme %s for ort-cpu', (scheme) => {
  let written: Written;
  beforeAll(async () => {
    written = await write('ort-cpu', scheme);
  });

  it('runs every quantized linear as an integer kernel, and dequantizes no weight', () => {
    const { summary, optimized } = written;
    expect(summary.plan.rows.filter(({ decision }) => decision === 'int8')).toHaveLength(LINEARS[scheme]);
    expect(ofType(optimized, 'MatMulIntegerToFloat')).toHaveLength(LINEARS[scheme]);
    expect(ofType(optimized, 'DequantizeLinear')).toEqual([]);
  });

  it('quantizes each activation once, as UINT8', async () => {
    const pairs = await activationPairs(written.loaded);
    expect(new Set(pairs.map(({ activation }) => activation)).size).toBe(pairs.length);
    for (const pair of pairs) {
      expect(pair).toMatchObject({ readers: 1, sameParameters: true, type: 'uint8' });
      expect(pair.scale).toHaveLength(1);
    }
    const consumers = pairs.flatMap((pair) => pair.consumers);
    expect(consumers).toEqual(new Array(LINEARS[scheme]).fill('MatMul'));
  });

  it('stores symmetric weights, one scale for each output channel', async () => {
    await expectSymmetricWeights(written.loaded, LINEARS[scheme]);
  });

  it('stays close to the original', () => {
    expect(written.summary.verified.sqnr).toBeGreaterThan(30);
  });
});

describe.each(['ffn', 'blocks'] as const)('scheme %s for tensorrt', (scheme) => {
  let written: Written;
  beforeAll(async () => {
    written = await write('tensorrt', scheme);
  });

  it('quantizes each activation once, INT8 with zero point 0', async () => {
    const pairs = await activationPairs(written.loaded);
    expect(new Set(pairs.map(({ activation }) => activation)).size).toBe(pairs.length);
    for (const { readers, sameParameters, type, zeroPoint, scale } of pairs) {
      expect([readers, sameParameters, type, zeroPoint, scale.length]).toEqual([1, true, 'int8', 0, 1]);
    }
    const consumers = pairs.flatMap((pair) => pair.consumers);
    expect(consumers).toEqual(new Array(LINEARS[scheme]).fill('MatMul'));
  });

  it('stores symmetric weights, one scale for each output channel', async () => {
    await expectSymmetricWeights(written.loaded, LINEARS[scheme]);
  });

  it('lets onnxruntime fuse the linears that share their input with none, and leaves the others in floats', async () => {
    const pairs = await activationPairs(written.loaded);
    const alone = pairs.filter(({ consumers }) => consumers.length === 1).length;
    const { optimized } = written;
    expect(ofType(optimized, 'MatMulIntegerToFloat')).toHaveLength(alone);
    const weights = ofType(optimized, 'DequantizeLinear').filter((node) => isWeight(optimized, node));
    expect(weights).toHaveLength(LINEARS[scheme] - alone);
  });
});

/** What the checker says of every quantized product of what was written. */
async function checked({ summary }: Written, target: Target) {
  const { products, others, ...counts } = await checkTarget(summary.output, target);
  expect(others).toEqual([]);
  return { ...counts, roles: products.map(({ role }) => role) };
}

const int8Roles = ({ summary }: Written): string[] =>
  summary.plan.rows.filter(({ decision }) => decision.startsWith('int8')).map(({ role }) => role);

describe.each<[Target, Scheme, QuantizeOptions['activations']]>([
  ['ort-cuda', 'blocks', undefined],
  ['ort-cuda', 'ffn', 'static'],
  ['ort-cpu', 'ffn', 'dynamic'],
])('target %s, scheme %s, activations %s', (target, scheme, activations) => {
  let written: Written;
  beforeAll(async () => {
    written = await write(target, scheme, { activations });
  });

  it('multiplies integers in every quantized linear, and dequantizes nothing', async () => {
    const { graph } = written.loaded.model;
    expect(ofType(graph, 'MatMulInteger')).toHaveLength(LINEARS[scheme]);
    expect(ofType(graph, 'DequantizeLinear')).toEqual([]);
    const { integer, roles } = await checked(written, target);
    expect([integer, roles]).toEqual([LINEARS[scheme], int8Roles(written)]);
  });

  it('has codes that the target multiplies, made once for every activation', () => {
    const { graph } = written.loaded.model;
    const wanted = target === 'ort-cuda' ? [DataType.int8, 2] : [DataType.uint8, 3];
    for (const node of ofType(graph, 'MatMulInteger')) expect(node.inputs).toHaveLength(wanted[1] as number);
    const read = new Set(ofType(graph, 'MatMulInteger').map(({ inputs }) => inputs[0]));
    expect(ofType(graph, 'QuantizeLinear')).toHaveLength(read.size);
    if (activations === 'static') return;
    const { producers } = indexGraph(graph);
    for (const { inputs } of ofType(graph, 'QuantizeLinear')) {
      expect(producers.get(inputs[2] ?? '')?.intAttribute('to', 0)).toBe(wanted[0]);
    }
  });

  it('is no larger than the static one, and closer to the original where each token has a scale', () => {
    const { plan, verified } = written.summary;
    expect(plan.precision).toBe(activations === 'static' ? 'int8' : 'int8-dynamic');
    expect(verified.sqnr).toBeGreaterThan(activations === 'static' ? 32 : 40);
  });
});

describe('targets that quantize weights alone', () => {
  it('need no calibration, and dequantize every weight', async () => {
    const written = await write('webgpu', 'blocks', { calibration: undefined });
    const { graph } = written.loaded.model;
    const dequantized = ofType(graph, 'DequantizeLinear');
    expect(dequantized.every((node) => isWeight(graph, node))).toBe(true);
    expect(dequantized).toHaveLength(LINEARS.blocks);
    const { weights, float } = await checked(written, 'webgpu');
    expect([weights, float]).toEqual([LINEARS.blocks, 0]);
    expect(written.summary.inputs).toBeNull();
    expect(written.loaded.model.metadata.has('wanq.inputs')).toBe(false);
  });
});

it.each<[Target, Scheme]>([
  ['ort-cpu', 'blocks'],
  ['tensorrt', 'blocks'],
  ['directml', 'ffn'],
])('the checker finds nothing in what is written for %s', async (target, scheme) => {
  const { integer, float } = await checked(await write(target, scheme), target);
  expect([integer, float]).toEqual([LINEARS[scheme], 0]);
});

describe.each<[string, Readonly<Record<string, readonly number[]>>, number]>([
  ['all sizes', { hidden_states: [1, 12, 5, 8, 8], timestep: [1], encoder_hidden_states: [1, 32, 64] }, LINEARS.blocks],
  // Keys and values of cross attention.
  ['the size of its text', { encoder_hidden_states: [1, 32, 64] }, 6 * 2],
])('a transformer that fixes %s', (name, sizes, merged) => {
  const pipeline = path.join(folder, name.replaceAll(' ', '-'));
  const its = `${pipeline}.safetensors`;

  beforeAll(async () => {
    await cp(MICRO_PIPELINE, pipeline, { recursive: true });
    const transformer = path.join(pipeline, 'transformer');
    const loaded = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
    const { graph } = loaded.model;
    graph.inputs = graph.inputs.map((input) => ({ ...input, dims: sizes[input.name] ?? input.dims }));
    graph.valueInfo = [];
    await rm(transformer, { recursive: true });
    await mkdir(transformer);
    await saveModel(loaded.model, loaded, transformer);
    await loaded.close();
    await cp(path.join(MICRO_PIPELINE, 'transformer', 'config.json'), path.join(transformer, 'config.json'));
    await calibrateOn(pipeline, its);
  });

  it('keeps integer kernels for all linears on ort-cpu, though onnxruntime merges what it adds to products', async () => {
    const { optimized, summary } = await write('ort-cpu', 'blocks', { pipeline, calibration: its });
    expect(summary.passes.find(({ pass }) => pass === 'shield-biases')?.did).toContain(`${merged} Adds`);
    expect(ofType(optimized, 'MatMulIntegerToFloat')).toHaveLength(LINEARS.blocks);
    expect(ofType(optimized, 'DequantizeLinear')).toEqual([]);
    expect((await checkTarget(summary.output, 'ort-cpu')).float).toBe(0);
  });
});
