import { mkdir, realpath, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { blockBoundaries } from '../../../src/analyze/boundaries.js';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { openTransformer } from '../../../src/calibrate/observed-transformer.js';
import { observedOutputs, observedValues } from '../../../src/calibrate/observed-values.js';
import { runLinear } from '../../../src/evaluate/linears/probe.js';
import { TappedTransformer } from '../../../src/evaluate/linears/taps.js';
import type { Attribute } from '../../../src/ir/attribute.js';
import { Graph, Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { randn } from '../../../src/numerics/rng.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { decodeMessage, encodeMessage } from '../../../src/onnx/schema.js';
import { encodeTensor } from '../../../src/onnx/tensor-proto.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { JITTER_INPUT } from '../../../src/passes/observe-activations.js';
import { runPasses } from '../../../src/passes/pass.js';
import type { DenoiserInput } from '../../../src/pipeline/denoise.js';
import { transformerSignature } from '../../../src/pipeline/signature.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { HostTensor } from '../../../src/runtime/tensor.js';
import { contentHash } from '../../../src/util/hash.js';
import { intoCache } from '../../helpers/cache.js';
import { unpackVariant } from '../../helpers/variants.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, modelOf, node, value } from '../support/graphs.js';

const TOKENS = 4;
const shape = { channels: 8, frames: 2, height: 4, width: 4 };
const folder = temporaryFolder();
const host = sharedHost();

async function withModel<T>(pipeline: string, use: (loaded: LoadedModel) => Promise<T>): Promise<T> {
  const loaded = await loadModel(path.join(pipeline, 'transformer', 'model.onnx'));
  return use(loaded).finally(() => loaded.close());
}

/** What comes out wherever wanq gives a graph of a pipeline to onnxruntime from memory. */
async function shown(pipeline: string) {
  const face = await withModel(pipeline, async ({ model, path: file }) => {
    return { signature: transformerSignature(model.graph, file), patch: [2, 2] as const };
  });
  const input: DenoiserInput = {
    ...{ shape, latents: randn(1, 8 * 2 * 4 * 4), timestep: 400 },
    text: { length: 5, features: 32, data: randn(2, 5 * 32) },
  };
  const observed = (cut: boolean) =>
    withModel(pipeline, async (loaded) => {
      runPasses(loaded.model, NORMALIZE);
      const cuts = cut ? blockBoundaries(loaded.model.graph) : [];
      const [values, magnitudes] = [observedValues(loaded), observedOutputs(loaded)];
      const source = { loaded, face, values, magnitudes, tokens: TOKENS };
      const transformer = await openTransformer(host, source, CPU.providers, cuts);
      const seen: unknown[] = [];
      const jitter = { dtype: 'float64', dims: [TOKENS], data: new Float64Array(TOKENS).fill(0.4) } as const;
      const velocities = await transformer.run([{ input, feeds: { [JITTER_INPUT]: jitter } }], {
        activation: (...of) => seen.push(of),
        output: (...of) => seen.push(of),
      });
      return { velocities, seen, segments: transformer.segments };
    });
  const probed = await withModel(pipeline, async (loaded) => {
    runPasses(loaded.model, NORMALIZE);
    const linears = findLinears(loaded.model.graph);
    const values = linears.map(({ activation, inFeatures }) => ({ value: activation, channels: inFeatures }));
    const distinct = [...new Map(values.map((of) => [of.value, of])).values()];
    const tapped = await TappedTransformer.open(host, { loaded, face, options: CPU }, distinct, TOKENS);
    const rows = await tapped.run(input, 0);
    const { producers } = indexGraph(loaded.model.graph);
    const linear = linears.at(-1) as Linear;
    const product = await runLinear(host, loaded, linear, producers, rows.get(linear.activation) as Float32Array);
    return { rows, product };
  });
  return { whole: await observed(false), cut: await observed(true), ...probed };
}

/** Hashes of what a pipeline is calibrated and quantized to. */
async function made(pipeline: string, name: string): Promise<string[]> {
  const [calibration, output] = [path.join(folder, `${name}.safetensors`), path.join(folder, `${name}-int8`)];
  await calibrate({
    ...{ pipeline, output: calibration, syntheticInputs: 1, negativePrompt: '', steps: 1, guidance: 1, seed: 1 },
    ...{ buckets: 1, tokens: 'all', device: 'cpu', frames: 5, height: 64, width: 64 },
  });
  await quantize({
    ...{ pipeline, calibration, output, scheme: 'blocks', target: 'ort-cpu', method: 'minmax', percentile: 99.9 },
    ...{ keep: [], link: true },
  });
  const graph = path.join(output, 'transformer', 'model.onnx');
  return Promise.all([calibration, graph, `${graph}_data`].map(contentHash));
}

describe('a pipeline in a Hugging Face cache', async () => {
  const plain = path.join(folder, 'external-one');
  await unpackVariant('external-one', plain);
  const cached = await intoCache(plain, path.join(folder, 'hub'));

  it('shows what it shows as plain files', async () => {
    const [expected, is] = [await shown(plain), await shown(cached)];
    expect(expected.cut.segments).toBe(4);
    expect(expected.whole.seen.length).toBeGreaterThan(20);
    expect(expected.cut.velocities).toEqual(expected.whole.velocities);
    expect(is).toEqual(expected);
  });

  it('is calibrated and quantized to the same bytes', async () => {
    expect(await made(cached, 'cached')).toEqual(await made(plain, 'plain'));
  });

  it('has the hash of plain files', async () => {
    expect(await contentHash(cached)).toBe(await contentHash(plain));
    expect(await contentHash(path.join(cached, 'transformer'))).not.toBe(await contentHash(cached));
  });

  it('is given to onnxruntime as it is where it is none', () =>
    withModel(plain, async (loaded) => {
      const { bytes, folder: of } = await loaded.encoded(loaded.model);
      expect(Buffer.from(bytes).equals(loaded.bytes)).toBe(true);
      expect(of).toBe(path.join(plain, 'transformer'));
    }));
});

it('many data files, one of them a plain one in the checkout, are all found', async () => {
  const plain = path.join(folder, 'external-many');
  await unpackVariant('external-many', plain);
  const cached = await intoCache(plain, path.join(folder, 'hub-of-many'));
  const file = path.join(cached, 'transformer', 'rest.bin');
  await rename(await realpath(file), `${file}.plain`);
  await rename(`${file}.plain`, file);
  await withModel(cached, async (loaded) => {
    const session = await host.createSession(await loaded.encoded(loaded.model), CPU);
    expect(session.info.outputs).toHaveLength(1);
    await session.release();
  });
});

/**
 * A model that adds 1, 2, 3, 4 and 5 to its input, all in `data`: an initializer, a constant, an initializer of a graph inside the graph, a constant of a
 * function and the function's default for an attribute.
 */
function adding(): Uint8Array {
  const held = (name: string, index: number): Tensor =>
    new Tensor(name, 'float32', [1], { kind: 'external', location: 'data', offset: 4 * index, length: 4 });
  const branch = (name: string): Attribute => ({
    ...{ name, type: 'graph' },
    value: new Graph({
      ...{ name, inputs: [], outputs: [value(`${name}_sum`, 'float32', [1])] },
      nodes: [node('Add', ['b', `${name}_three`], `${name}_sum`)],
      initializers: [held(`${name}_three`, 2)],
    }),
  });
  const model = modelOf({
    nodes: [
      node('Add', ['x', 'one'], 'a'),
      node('Constant', [], 'two', [{ name: 'value', type: 'tensor', value: held('', 1) }]),
      node('Add', ['a', 'two'], 'b'),
      node('If', ['yes'], 'c', [branch('then_branch'), branch('else_branch')]),
      new Node({ opType: 'Nine', domain: 'test', inputs: ['c'], outputs: ['y'] }),
    ],
    inputs: [value('x', 'float32', [1]), value('yes', 'bool', [])],
    outputs: [value('y', 'float32', [1])],
    initializers: [held('one', 0)],
  });
  const attribute = (name: string, index: number) =>
    encodeMessage('AttributeProto', { name, type: 4, t: encodeTensor(held('', index)) });
  const reference = encodeMessage('AttributeProto', { name: 'value', type: 4, refAttrName: 'five' });
  const within = (opType: string, input: string[], output: string, attributes: Uint8Array[] = []) =>
    encodeMessage('NodeProto', { opType, input, output: [output], attribute: attributes });
  const nine = encodeMessage('FunctionProto', {
    ...{ name: 'Nine', domain: 'test', input: ['in'], output: ['out'], opsetImport: [{ domain: '', version: 20 }] },
    attributeProto: [attribute('five', 4)],
    node: [
      within('Constant', [], 'four', [attribute('value', 3)]),
      within('Constant', [], 'five', [reference]),
      within('Add', ['in', 'four'], 'sum'),
      within('Add', ['sum', 'five'], 'out'),
    ],
  });
  const opsetImport = [
    { domain: '', version: 20 },
    { domain: 'test', version: 1 },
  ];
  return encodeMessage('ModelProto', {
    ...decodeMessage('ModelProto', encodeModel(model)),
    ...{ irVersion: 9, opsetImport, functions: [nine] },
  });
}

it('data is found wherever a model holds tensors, and the model stays as it was', async () => {
  const plain = path.join(folder, 'adding');
  await mkdir(path.join(plain, 'transformer'), { recursive: true });
  await writeFile(path.join(plain, 'transformer', 'model.onnx'), adding());
  await writeFile(path.join(plain, 'transformer', 'data'), asBytes(Float32Array.of(1, 2, 3, 4, 5)));
  const cached = await intoCache(plain, path.join(folder, 'hub-of-adding'));
  const feeds = {
    x: { dtype: 'float32', dims: [1], data: Float32Array.of(10) },
    yes: { dtype: 'bool', dims: [], data: Uint8Array.of(1) },
  } as const;
  await withModel(cached, async (loaded) => {
    const session = await host.createSession(await loaded.encoded(loaded.model), CPU);
    const { outputs } = await session.run(feeds, ['y']);
    expect([...(outputs.y as HostTensor).data]).toEqual([25]);
    await session.release();
    expect(Buffer.from(encodeModel(loaded.model)).equals(loaded.bytes)).toBe(true);
  });
});
