import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Attribute, int, ints } from '../../../src/ir/attribute.js';
import { Graph, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { encodeMessage } from '../../../src/onnx/schema.js';
import { MICRO, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { matmul, node, pair, parameters, quantizedModel, weight } from '../../helpers/quantized.js';
import { readVariants, unpackVariant } from '../../helpers/variants.js';
import { syntheticCalibration } from '../../integration/support/calibration.js';
import { joined } from './bytes.js';
import { quantizedInto } from './prepare.js';
import { field } from './protobuf.js';

/** What a model of the corpus is looked at as. */
export type ModelKind = 'transformer' | 'quantized' | 'text_encoder' | 'vae_decoder' | 'features';

/** A model to mutate: a pipeline folder `models/NAME` of the corpus with the graph in its component's folder. */
export interface ModelItem {
  readonly name: string;
  readonly kind: ModelKind;
  /** How often it is taken, beside the others. */
  readonly weight: number;
  /** Whether `models/NAME/calibration.safetensors` is there. */
  readonly calibrated: boolean;
}

/** Folder of a kind's graph in its pipeline. */
export function componentOf(kind: ModelKind): string {
  return kind === 'quantized' || kind === 'features' ? 'transformer' : kind;
}

export const INDEX = 'corpus.json';

/** Variants whose exporters wrote a story about each node: they are mutated without it, and some with it. */
const WITH_STORIES = new Set(['external-one', 'functions', 'subgraphs']);

const CALIBRATED = new Set(['onnxslim', 'ort-fused', 'gemm', 'fp16-islands', 'torchscript', 'shared', 'not-wan']);

/**
 * Makes the files that are mutated, all of them by what wanq reads and writes itself: the same on every machine.
 * @param some leaves most of the fixtures out
 */
export async function makeCorpus(folder: string, some = false): Promise<ModelItem[]> {
  const items: ModelItem[] = [];
  const pipelineOf = (name: string): string => path.join(folder, 'models', name);
  const add = async (name: string, kind: ModelKind, weight: number, calibrated = false): Promise<void> => {
    if (calibrated)
      await syntheticCalibration(pipelineOf(name), path.join(pipelineOf(name), 'calibration.safetensors'));
    items.push({ name, kind, weight, calibrated });
  };
  const write = async (name: string, bytes: Uint8Array): Promise<void> => {
    await mkdir(path.join(pipelineOf(name), 'transformer'), { recursive: true });
    await writeFile(path.join(pipelineOf(name), 'transformer', 'model.onnx'), bytes);
  };

  await write('tiny', tinyModel(false));
  await add('tiny', 'transformer', 8, true);
  await write('tiny-function', tinyModel(true));
  await add('tiny-function', 'transformer', 8);
  await write('tiny-quantized', encodeModel(quantizedModel([...pair(), weight(), matmul()], parameters())));
  await add('tiny-quantized', 'quantized', 4);

  const variants = (await readVariants()).filter(({ name }) => !some || name === 'onnxslim' || name === 'external-one');
  for (const { name } of variants) {
    if (name === 'checkpoint') continue;
    await unpackVariant(name, pipelineOf(name));
    const kind = name === 'quantized' ? 'quantized' : 'transformer';
    if (!WITH_STORIES.has(name)) await slim(pipelineOf(name), 'transformer');
    await add(name, kind, 0.5, CALIBRATED.has(name));
  }
  for (const name of some ? ['tiny', 'onnxslim'] : ['tiny', 'onnxslim', 'gemm']) {
    const source = pipelineOf(name);
    await quantizedInto(source, path.join(source, 'calibration.safetensors'), pipelineOf(`${name}-int8`));
    await add(`${name}-int8`, 'quantized', name === 'tiny' ? 2 : 0.5);
  }
  if (!some) {
    for (const component of ['transformer', 'text_encoder', 'vae_decoder'] as const) {
      const name = `micro-${component}`;
      await cp(path.join(MICRO_PIPELINE, component), path.join(pipelineOf(name), component), { recursive: true });
      if (component !== 'transformer') await write(name, tinyModel(false));
      await slim(pipelineOf(name), component);
      await add(name, component, 0.5, component === 'transformer');
    }
    await mkdir(pipelineOf('features'));
    await cp(path.join(MICRO, 'fvd'), path.join(pipelineOf('features'), 'transformer'), { recursive: true });
    await slim(pipelineOf('features'), 'transformer');
    await add('features', 'features', 0.5);
  }
  await writeFile(path.join(folder, INDEX), JSON.stringify(items));
  return items;
}

/** Writes a model anew with its weights beside it and without the stories of its nodes. */
async function slim(pipeline: string, component: string): Promise<void> {
  const folder = path.join(pipeline, component);
  const loaded = await loadModel(path.join(folder, 'model.onnx'));
  const target = `${folder}-slim`;
  await mkdir(target);
  for (const each of loaded.model.graph.nodes) each.metadata = new Map();
  await saveModel(loaded.model, loaded, target);
  await loaded.close();
  const files = (await readdir(target)).map(async (file) => {
    await writeFile(path.join(folder, file), await readFile(path.join(target, file)));
  });
  await Promise.all(files);
}

const WIDTH = 16;
const INNER = 24;

/** A block's worth of everything that wanq looks at, in a few kilobytes: products, a convolution, a subgraph that reads from outside, a function. */
function tinyModel(withFunction: boolean): Uint8Array {
  const weights = (name: string, dims: readonly number[]): Tensor => {
    const count = dims.reduce((a, b) => a * b, 1);
    return Tensor.float32(
      name,
      dims,
      Array.from({ length: count }, (_, i) => ((i * 37) % 101) / 101 - 0.5),
    );
  };
  const branch = (name: string): Attribute => ({
    name,
    type: 'graph',
    value: new Graph({
      name,
      nodes: [node('MatMul', ['h', 'blocks.0.attn1.to_q.weight'], `${name}_out`)],
      initializers: [],
      inputs: [],
      outputs: [{ name: `${name}_out`, dtype: 'float32', dims: null }],
    }),
  });
  const nodes = [
    node('Conv', ['hidden_states', 'patch_embedding.weight', 'patch_embedding.bias'], 'patches', [
      ints('kernel_shape', [1, 2, 2]),
      ints('strides', [1, 2, 2]),
    ]),
    node('Reshape', ['patches', 'flat'], 'flattened'),
    node('Transpose', ['flattened'], 'h', [ints('perm', [0, 2, 1])]),
    node('MatMul', ['h', 'blocks.0.ffn.net.0.proj.weight'], 'up'),
    node('Add', ['up', 'blocks.0.ffn.net.0.proj.bias'], 'biased'),
    node('Gelu', ['biased'], 'gelu'),
    node('Transpose', ['blocks.0.ffn.net.2.weight'], 'down_t', [ints('perm', [1, 0])]),
    node('MatMul', ['gelu', 'down_t'], 'down'),
    node('Constant', [], 'half', [{ name: 'value', type: 'tensor', value: Tensor.float32('', [], [0.5]) }]),
    node('Mul', ['down', 'half'], 'halved'),
    node('Cast', ['timestep'], 'time', [int('to', 1)]),
    node('Gemm', ['time', 'time_embedder.linear_1.weight', 'time_embedder.linear_1.bias'], 'embedded', [
      int('transB', 1),
    ]),
    node('Greater', ['embedded', 'half'], 'which'),
    node('ReduceMax', ['time'], 'any', [int('keepdims', 0)]),
    node('Cast', ['any'], 'condition', [int('to', 9)]),
    new Node({
      opType: 'If',
      name: 'if',
      inputs: ['condition'],
      outputs: ['branched'],
      attributes: ['then_branch', 'else_branch'].map(branch),
    }),
    node('MatMul', ['encoder_hidden_states', 'blocks.0.attn2.to_k.weight'], 'keys'),
    node('Add', ['halved', 'branched'], 'sum'),
    node('LayerNormalization', ['sum', 'norm_out.weight'], 'normed', [int('axis', -1)]),
    ...(withFunction
      ? [node('Linear', ['normed', 'proj_out.weight'], 'out', [], 'local')]
      : [node('MatMul', ['normed', 'proj_out.weight'], 'out')]),
  ];
  const model = quantizedModel(
    nodes,
    [
      weights('patch_embedding.weight', [WIDTH, 4, 1, 2, 2]),
      weights('patch_embedding.bias', [WIDTH]),
      Tensor.int64('flat', [3], [0, WIDTH, -1]),
      weights('blocks.0.ffn.net.0.proj.weight', [WIDTH, INNER]),
      weights('blocks.0.ffn.net.0.proj.bias', [INNER]),
      weights('blocks.0.ffn.net.2.weight', [WIDTH, INNER]),
      weights('time_embedder.linear_1.weight', [8, 4]),
      weights('time_embedder.linear_1.bias', [8]),
      weights('blocks.0.attn1.to_q.weight', [WIDTH, WIDTH]),
      weights('blocks.0.attn2.to_k.weight', [12, WIDTH]),
      weights('norm_out.weight', [WIDTH]),
      weights('proj_out.weight', [WIDTH, 16]),
    ],
    {
      outputs: ['out'],
      inputs: [
        { name: 'hidden_states', dtype: 'float32', dims: [1, 4, 'frames', 'height', 'width'] },
        { name: 'timestep', dtype: 'int64', dims: [1, 4] },
        { name: 'encoder_hidden_states', dtype: 'float32', dims: [1, 'text', 12] },
      ],
    },
  );
  model.graph.inputs = model.graph.inputs.filter(({ name }) => name !== 'x');
  model.graph.valueInfo = [{ name: 'h', dtype: 'float32', dims: [1, 'tokens', WIDTH] }];
  if (withFunction) model.opsets.push({ domain: 'local', version: 1 });
  const bytes = encodeModel(model);
  if (!withFunction) return bytes;
  const product = encodeMessage('NodeProto', { opType: 'MatMul', input: ['a', 'b'], output: ['c'] });
  const definition = encodeMessage('FunctionProto', {
    name: 'Linear',
    domain: 'local',
    input: ['a', 'b'],
    output: ['c'],
    node: [product],
    opsetImport: [{ domain: '', version: 20 }],
  });
  return joined(bytes, field(25, definition));
}
