import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { type QuantizeSummary, quantize } from '../../../src/quantize/quantize.js';
import type { Scheme } from '../../../src/quantize/scheme.js';
import type { Target } from '../../../src/quantize/target.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';

const LINEARS: Record<Scheme, number> = { ffn: 6 * 2, blocks: 6 * 10 };
const folder = temporaryFolder();
const calibration = path.join(folder, 'calibration.safetensors');
const host = sharedHost();

beforeAll(async () => {
  await calibrate({
    pipeline: MICRO_PIPELINE,
    prompts: ['a small red circle moving left over a dark background'],
    negativePrompt: '',
    steps: 2,
    guidance: 5,
    seed: 0,
    output: calibration,
    buckets: 2,
    tokens: 'auto',
    device: 'cpu',
  });
});

interface Written {
  readonly summary: QuantizeSummary;
  readonly loaded: LoadedModel;
  /** The graph after onnxruntime's CPU provider optimized it. */
  readonly optimized: Graph;
}

async function write(target: Target, scheme: Scheme): Promise<Written> {
  const output = path.join(folder, `${target}-${scheme}`);
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
  });
  const file = path.join(output, 'transformer', 'model.onnx');
  const optimizedModelPath = path.join(folder, `${target}-${scheme}.onnx`);
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
