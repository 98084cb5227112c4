import { execFileSync } from 'node:child_process';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readFeatures } from '../../../src/evaluate/features.js';
import { readPerceptual } from '../../../src/evaluate/perceptual.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { loadGraph, loadModel, loadRunnable } from '../../../src/onnx/load.js';
import { encodeMessage } from '../../../src/onnx/schema.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { describePipeline } from '../../../src/pipeline/open.js';
import { TextEncoder } from '../../../src/pipeline/text-encoder.js';
import { VaeDecoder, VaeEncoder } from '../../../src/pipeline/vae.js';
import { type SafeTensor, writeSafetensors } from '../../../src/util/safetensors.js';
import { expectRejection } from '../helpers/errors.js';
import { model, node } from '../helpers/graphs.js';
import { temporaryFolder } from '../helpers/temporary.js';
import { graphBytes, modelBytes } from './wire.js';

/** A model of one weight in `data`. */
function withData(): Uint8Array {
  const weight = new Tensor('w', 'uint8', [4], { kind: 'external', location: 'data', offset: 0, length: 4 });
  return encodeModel(
    model({ nodes: [node('Add', ['x', 'w'], 'y')], initializers: [weight], inputs: ['x'], outputs: ['y'] }),
  );
}

const pipe = (folder: string): void => {
  execFileSync('mkfifo', [path.join(folder, 'data')]);
};

/** A folder with `model.onnx` and a pipe as its data file. */
async function withPipe(): Promise<{ folder: string; file: string }> {
  const folder = await temporaryFolder();
  const file = path.join(folder, 'model.onnx');
  await writeFile(file, withData());
  pipe(folder);
  return { folder, file };
}

describe('loadRunnable', () => {
  it('takes a model whose data is there', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'model.onnx'), withData());
    await writeFile(path.join(folder, 'data'), 'abcd');
    const { graph } = await loadRunnable(path.join(folder, 'model.onnx'));
    expect(graph.initializers.size).toBe(1);
  });

  it('refuses a pipe as a data file, where loadGraph does not look', async () => {
    const { file } = await withPipe();
    await expect(loadRunnable(file)).rejects.toMatchObject({
      code: 'EXTERNAL_DATA_INVALID',
      message: expect.stringContaining(`${file}: tensor "w": data file "data" is not a regular file`),
    });
    await expect(loadGraph(file)).resolves.toBeDefined();
  });

  const data = { location: '../outside' };
  const tensor = encodeMessage('TensorProto', {
    name: 'hidden',
    dataType: 2,
    dims: [4],
    dataLocation: 1,
    externalData: Object.entries(data).map(([key, value]) => ({ key, value })),
  });
  const constant = encodeMessage('NodeProto', {
    opType: 'Constant',
    output: ['c'],
    attribute: [encodeMessage('AttributeProto', { name: 'value', type: 4, t: tensor })],
  });
  const inner = graphBytes({ initializer: [tensor] });
  const branch = encodeMessage('NodeProto', {
    opType: 'If',
    output: ['c'],
    attribute: [encodeMessage('AttributeProto', { name: 'then_branch', type: 5, g: inner })],
  });
  const branches = encodeMessage('NodeProto', {
    opType: 'Any',
    output: ['c'],
    attribute: [encodeMessage('AttributeProto', { name: 'all', type: 10, graphs: [inner] })],
  });
  const definition = encodeMessage('FunctionProto', { name: 'f', node: [constant] });
  it.each<[string, Uint8Array]>([
    ['a constant', modelBytes({ graph: graphBytes({ node: [constant] }) })],
    ['a graph inside the graph', modelBytes({ graph: graphBytes({ node: [branch] }) })],
    ['one graph of several', modelBytes({ graph: graphBytes({ node: [branches] }) })],
    ['a function', modelBytes({ functions: [definition] })],
  ])('checks the data of %s', async (_, bytes) => {
    const file = path.join(await temporaryFolder(), 'model.onnx');
    await writeFile(file, bytes);
    await expectRejection(loadRunnable(file), 'EXTERNAL_DATA_INVALID');
    await expectRejection(loadModel(file), 'EXTERNAL_DATA_INVALID');
  });
});

describe('loadModel', () => {
  it('refuses tensors that overlap', async () => {
    const folder = await temporaryFolder();
    const tensors = [0, 2].map(
      (offset) => new Tensor(`t${offset}`, 'uint8', [4], { kind: 'external', location: 'data', offset, length: 4 }),
    );
    const made = model({ nodes: [node('Concat', ['t0', 't2'], 'y')], initializers: tensors, outputs: ['y'] });
    await writeFile(path.join(folder, 'model.onnx'), encodeModel(made));
    await writeFile(path.join(folder, 'data'), new Uint8Array(8));
    await expectRejection(loadModel(path.join(folder, 'model.onnx')), 'EXTERNAL_DATA_INVALID');
  });

  it('takes a model whose data file is missing, which loadRunnable does not', async () => {
    const file = path.join(await temporaryFolder(), 'model.onnx');
    const tensor = new Tensor('w', 'uint8', [4], { kind: 'external', location: 'data', offset: 0, length: 4 });
    const made = model({ nodes: [node('Identity', ['w'], 'y')], initializers: [tensor], outputs: ['y'] });
    await writeFile(file, encodeModel(made));
    const loaded = await loadModel(file);
    await expectRejection(loaded.read(tensor), 'EXTERNAL_DATA_INVALID');
    await loaded.close();
    await expectRejection(loadRunnable(file), 'EXTERNAL_DATA_INVALID');
  });

  it.each([
    ['zeros', 2 ** 31 - 1, new Uint8Array(0)],
    ['zeros, larger than protobuf can be,', 10e9, modelBytes()],
    ['a graph of zeros', 2 ** 30, Uint8Array.of(0x08, 8, 0x3a, 0x80, 0x80, 0x80, 0x80, 2)],
    ['an archive', 2 ** 30, Buffer.from('PK\u0003\u0004')],
    ['text', 2 ** 30, Buffer.from('<!doctype html><html>')],
  ])('refuses a large file of %s before it reads all of it', async (_, size, beginning) => {
    const file = path.join(await temporaryFolder(), 'model.onnx');
    const handle = await open(file, 'w');
    await handle.write(beginning);
    await handle.truncate(size);
    await handle.close();
    const before = process.memoryUsage().arrayBuffers;
    await expectRejection(loadModel(file), 'MODEL_INVALID');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 28);
  });

  it('takes a large file whose beginning is a model', async () => {
    const file = path.join(await temporaryFolder(), 'model.onnx');
    const large = encodeMessage('TensorProto', {
      name: 'w',
      dataType: 2,
      dims: [70 * 2 ** 20],
      rawData: new Uint8Array(70 * 2 ** 20),
    });
    await writeFile(file, modelBytes({ graph: graphBytes({ initializer: [large] }) }));
    const loaded = await loadModel(file);
    expect(loaded.model.graph.initializers.get('w')?.byteLength).toBe(70 * 2 ** 20);
  });
});

describe('a pipe as the data file is refused before onnxruntime gets the model, by', () => {
  const none = undefined as never;
  const configured = async (component: string): Promise<PipelineFolder> => {
    const root = await temporaryFolder();
    for (const name of new Set(['transformer', component])) {
      await mkdir(path.join(root, name), { recursive: true });
      await writeFile(path.join(root, name, 'model.onnx'), withData());
      if (name === component) pipe(path.join(root, name));
    }
    await writeFile(path.join(root, component, 'config.json'), '{"latents_mean":[0],"latents_std":[1]}');
    return PipelineFolder.open(root);
  };

  it('describePipeline', async () => {
    const folder = await configured('transformer');
    await expectRejection(describePipeline(folder, {} as never), 'EXTERNAL_DATA_INVALID');
  });

  it('TextEncoder', async () => {
    await expectRejection(TextEncoder.open(await configured('text_encoder')), 'EXTERNAL_DATA_INVALID');
  });

  it('VaeDecoder and VaeEncoder', async () => {
    await expectRejection(VaeDecoder.open(await configured('vae_decoder'), none, none), 'EXTERNAL_DATA_INVALID');
    await expectRejection(VaeEncoder.open(await configured('vae_encoder'), none, none), 'EXTERNAL_DATA_INVALID');
  });

  it('readPerceptual', async () => {
    const { file } = await withPipe();
    await expectRejection(readPerceptual(file, { height: 8, width: 8 }), 'EXTERNAL_DATA_INVALID');
  });

  it('readFeatures', async () => {
    const { folder } = await withPipe();
    const ones = (shape: number[]): SafeTensor => ({ dtype: 'F64', shape, data: Float64Array.of(1) });
    const tensors = new Map([
      ['mean', ones([1])],
      ['covariance', ones([1, 1])],
    ]);
    await writeSafetensors(path.join(folder, 'reference.safetensors'), { tensors, metadata: { count: '2' } });
    await expectRejection(readFeatures(folder, { frames: 1, height: 8, width: 8 }), 'EXTERNAL_DATA_INVALID');
  });

  it('loadModel', async () => {
    const { file } = await withPipe();
    expect((await readFile(file)).length).toBeGreaterThan(0);
    await expectRejection(loadModel(file), 'EXTERNAL_DATA_INVALID');
  });
});
