import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import type { Graph, Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { randn } from '../../../src/numerics/rng.js';
import { fingerprint, loadGraph, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { type Component, PipelineFolder } from '../../../src/pipeline/layout.js';
import type { ComponentSummary } from '../../../src/quantize/components/component.js';
import { type ComponentOptions, planComponents, RewrittenComponents } from '../../../src/quantize/components/index.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { memory } from '../../helpers/source.js';
import { expectRejection } from '../../unit/helpers/errors.js';
import { temporaryFolder } from '../support/environment.js';
import { cast, modelOf, node, transpose, value } from '../support/graphs.js';

const work = temporaryFolder();

async function rewrite(pipeline: string, options: ComponentOptions): Promise<[string, ComponentSummary[]]> {
  const target = await mkdtemp(path.join(work, 'written-'));
  const components = await RewrittenComponents.open(await PipelineFolder.open(pipeline), options);
  try {
    return [target, await components.save(target, {})];
  } finally {
    await components.close();
  }
}

/** The micro pipeline with one component replaced, or without it. */
async function pipelineWith(component: Component, model?: Model): Promise<string> {
  const root = await mkdtemp(path.join(work, 'pipeline-'));
  await cp(MICRO_PIPELINE, root, { recursive: true });
  await rm(path.join(root, component), { recursive: true });
  if (model) {
    await mkdir(path.join(root, component));
    await cp(path.join(MICRO_PIPELINE, component, 'config.json'), path.join(root, component, 'config.json'));
    await saveModel(model, memory, path.join(root, component));
  }
  return root;
}

const graphOf = async (target: string, component: Component): Promise<Graph> =>
  (await loadGraph(path.join(target, component, 'model.onnx'))).graph;

const count = ({ nodes }: Graph, opType: string): number => nodes.filter((of) => of.opType === opType).length;

describe('the text encoder with weight-only INT8', () => {
  const options = { textEncoder: 'w8', target: 'ort-cpu' } as const;
  let target: string;
  let summaries: ComponentSummary[];

  beforeAll(async () => {
    [target, summaries] = await rewrite(MICRO_PIPELINE, options);
  });

  it('is written beside its configuration, and runs', async () => {
    expect(await readdir(target)).toEqual(['text_encoder']);
    expect((await readdir(path.join(target, 'text_encoder'))).sort()).toEqual([
      'config.json',
      'model.onnx',
      'model.onnx_data',
    ]);
    const [summary] = summaries as [ComponentSummary];
    expect(summary).toMatchObject({ component: 'text_encoder', form: 'w8', verified: { ran: true } });
    expect(summary.did).toBe('4 of 14 linears and the token table stored as INT8');
    // 4 weights of 64 x 160 and 256 rows of 64 lose three bytes of four, and gain scales and zero points.
    const values = 4 * 64 * 160 + 256 * 64;
    expect(summary.bytesBefore - summary.bytesAfter).toBe(3 * values - 4 * 160 * 5 - 256 * 4);
    expect(summary.verified.sqnr).toBeGreaterThan(32);
    expect(summary.verified.sqnr).toBeLessThan(60);
  });

  it('says where it comes from, and what of it is quantized', async () => {
    const { metadata } = await loadGraph(path.join(target, 'text_encoder', 'model.onnx'));
    const original = await loadModel(path.join(MICRO_PIPELINE, 'text_encoder', 'model.onnx'));
    expect(metadata.get('wanq.source')).toBe(await fingerprint(original));
    expect(metadata.get('wanq.form')).toBe('w8');
    expect(JSON.parse(metadata.get('wanq.quantized') as string)).toEqual([
      'node_linear_4',
      'node_linear_5',
      'node_linear_11',
      'node_linear_12',
      'node_embedding',
    ]);
    await original.close();
  });

  it('keeps attention and output linears, inputs and outputs', async () => {
    const [before, after] = await Promise.all([MICRO_PIPELINE, target].map((root) => graphOf(root, 'text_encoder')));
    expect([after?.inputs, after?.outputs]).toEqual([before?.inputs, before?.outputs]);
    const floats = [...(after as Graph).initializers.values()].filter(
      ({ dtype, dims }) => dtype === 'float32' && dims.length === 2,
    );
    // 4 of attention and 1 output linear in each of two layers.
    expect(floats.filter(({ elements }) => elements >= 4096)).toHaveLength(10);
    expect(count(after as Graph, 'DequantizeLinear')).toBe(4);
  });

  /** A gated feed-forward behind a table of 512 rows, stored and computed in these types. */
  function encoder(stored: DataTypeName, computed: 'float32' | 'float16', gated = true): Model {
    const floats = (name: string, dims: number[], seed: number): Tensor => {
      const wide = Tensor.float32(
        name,
        dims,
        randn(
          seed,
          dims.reduce((a, b) => a * b, 1),
        ).map((x) => x / 8),
      );
      const form = stored === 'float16' ? 'float16' : undefined;
      if (form) return new Tensor(name, 'float16', dims, { kind: 'derived', source: wide, form: { as: form } });
      if (stored === 'float32') return wide;
      // The upper half of each FP32 value is its BF16.
      const words = new Uint16Array((wide.data as { bytes: Uint8Array }).bytes.slice().buffer);
      const upper = words.filter((_, i) => i % 2 === 1);
      return Tensor.fromBytes(name, 'bfloat16', dims, new Uint8Array(upper.buffer));
    };
    const weights = ['a', 'b'].map((name, i) => floats(name, [96, 64], i + 2));
    const read = (name: string): [string, Node[]] =>
      stored === computed ? [name, []] : [`${name}_wide`, [cast(name, `${name}_wide`, computed)]];
    const [[table, t], [a, as], [b, bs]] = ['table', 'a', 'b'].map(read) as [
      [string, Node[]],
      [string, Node[]],
      [string, Node[]],
    ];
    return modelOf({
      opset: 20,
      nodes: [
        ...t,
        node('Gather', [table, 'input_ids'], 'x'),
        ...as,
        transpose(a, 'aT'),
        node('MatMul', ['x', 'aT'], 'p'),
        node('Gelu', ['p'], 'g'),
        ...bs,
        transpose(b, 'bT'),
        node('MatMul', ['x', 'bT'], 'q'),
        node(gated ? 'Mul' : 'Add', ['g', 'q'], 'm'),
        ...(computed === 'float32' ? [node('Identity', ['m'], 'y')] : [cast('m', 'y', 'float32')]),
      ],
      initializers: [floats('table', [512, 64], 1), ...weights],
      inputs: [value('input_ids', 'int64', ['batch', 24])],
      outputs: [value('y', 'float32', ['batch', 24, 96])],
    });
  }

  it.each<[DataTypeName, 'float32' | 'float16']>([
    ['float32', 'float32'],
    ['bfloat16', 'float32'],
    ['float16', 'float32'],
    ['float16', 'float16'],
  ])('is found without names, stored in %s and computed in %s', async (stored, computed) => {
    const pipeline = await pipelineWith('text_encoder', encoder(stored, computed));
    const [written, [summary]] = await rewrite(pipeline, options);
    expect(summary?.did).toBe('2 of 2 linears and the token table stored as INT8');
    expect(summary?.verified.sqnr).toBeGreaterThan(30);
    const { initializers } = await graphOf(written, 'text_encoder');
    expect([...initializers.values()].filter(({ elements }) => elements >= 4096).map(({ dtype }) => dtype)).toEqual([
      'int8',
      'int8',
      'int8',
    ]);
  });

  it('is refused where no feed-forward is gated, and where it is quantized already', async () => {
    const plain = await pipelineWith('text_encoder', encoder('float32', 'float32', false));
    await expect(planComponents(plain, options)).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringMatching(/no gated feed-forward.*2 linears/),
    });
    const twice = await pipelineWith('text_encoder');
    await cp(path.join(target, 'text_encoder'), path.join(twice, 'text_encoder'), { recursive: true });
    await expect(planComponents(twice, options)).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringContaining('quantized already'),
    });
    await expectRejection(planComponents(await pipelineWith('text_encoder'), options), 'PIPELINE_INVALID');
  });
});

describe('the VAE in FP16', () => {
  const written = new Map<string, [string, ComponentSummary[]]>();
  const targets = ['ort-cpu', 'tensorrt'] as const;
  const folderOf = (target: string): string => written.get(target)?.[0] as string;

  beforeAll(async () => {
    for (const target of targets) written.set(target, await rewrite(MICRO_PIPELINE, { vae: 'fp16', target }));
  });

  it.each(targets)('stores kernels in FP16 for %s, and runs', async (target) => {
    const [folder, summaries] = written.get(target) as [string, ComponentSummary[]];
    expect(summaries.map(({ component }) => component)).toEqual(['vae_decoder', 'vae_encoder']);
    for (const { component, bytesBefore, bytesAfter, verified } of summaries) {
      expect(bytesAfter / bytesBefore).toBeLessThan(0.56);
      expect(verified.sqnr).toBeGreaterThan(60);
      expect(verified.sqnr).toBeLessThan(100);
      const [before, after] = await Promise.all([MICRO_PIPELINE, folder].map((root) => graphOf(root, component)));
      expect([after?.inputs, after?.outputs]).toEqual([before?.inputs, before?.outputs]);
      const kernels = [...(after as Graph).initializers.values()].filter(
        ({ name, elements }) => name.includes('.weight') && elements >= 1024,
      );
      expect(new Set(kernels.map(({ dtype }) => dtype))).toEqual(new Set(['float16']));
    }
  });

  it('computes in FP16, where the target does, convolutions of normalised values alone', async () => {
    expect(written.get('tensorrt')?.[1][0]?.did).toBe('30 kernels stored as FP16, 110 of 148 products computed in it');
    const after = await graphOf(folderOf('tensorrt'), 'vae_decoder');
    const { producers } = indexGraph(after);
    const isHalf = ({ inputs }: Node): boolean => after.initializers.get(inputs[1] as string)?.dtype === 'float16';
    const convs = after.nodes.filter(({ opType }) => opType === 'Conv');
    const halved = convs.filter(isHalf);
    expect(halved).toHaveLength(110);
    // What the Cast before each casts: SiLU or gamma, or the Concat that puts the last frames of a chunk before the next one.
    const cast = halved.map(({ inputs }) => producers.get(inputs[0] as string)?.inputs[0] as string);
    expect(new Set(cast.map((name) => producers.get(name)?.opType))).toEqual(new Set(['Concat', 'Mul']));
    const part = /post_quant_conv|conv_in|conv_shortcut|resample|time_conv|to_qkv|proj|conv_out|conv[12]/;
    const kept = convs.filter((of) => !isHalf(of)).map(({ inputs }) => inputs[1]?.match(part)?.[0]);
    expect(new Set(kept)).toEqual(
      new Set(['post_quant_conv', 'conv_in', 'conv_shortcut', 'resample', 'time_conv', 'proj']),
    );
    for (const opType of ['ReduceL2', 'Sigmoid', 'Softmax', 'Add']) {
      const made = after.valueInfo.filter(({ name }) => producers.get(name)?.opType === opType);
      expect(new Set(made.map(({ dtype }) => dtype)), opType).toEqual(new Set(['float32']));
    }
  });

  it('only stores in FP16 for a target that computes in FP32', async () => {
    const { nodes, initializers } = await graphOf(folderOf('ort-cpu'), 'vae_decoder');
    const casts = nodes.filter(({ opType }) => opType === 'Cast');
    expect(casts).toHaveLength(30);
    expect(casts.every(({ inputs }) => initializers.get(inputs[0] as string)?.dtype === 'float16')).toBe(true);
  });

  it('goes without an encoder, and is refused where there is nothing to halve', async () => {
    const options = { vae: 'fp16', target: 'ort-cpu' } as const;
    const alone = await pipelineWith('vae_encoder');
    expect((await planComponents(alone, options)).map(({ component }) => component)).toEqual(['vae_decoder']);
    await expectRejection(planComponents(await pipelineWith('vae_decoder'), options), 'PIPELINE_INVALID');
    const twice = await pipelineWith('vae_decoder');
    await cp(path.join(folderOf('ort-cpu'), 'vae_decoder'), path.join(twice, 'vae_decoder'), { recursive: true });
    await expect(planComponents(twice, options)).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringContaining('no FP32 kernel'),
    });
  });

  it('is refused with one clear line where a kernel does not fit', async () => {
    const kernel = Tensor.float32(
      'kernel',
      [32, 12, 3],
      randn(1, 32 * 12 * 3).map((x) => 1e6 * x),
    );
    const model = modelOf({
      nodes: [node('Conv', ['latent_sample', 'kernel'], 'sample')],
      initializers: [kernel],
      inputs: [value('latent_sample', 'float32', [1, 12, 40])],
      outputs: [value('sample', 'float32', [1, 32, 38])],
    });
    const pipeline = await pipelineWith('vae_decoder', model);
    await expect(rewrite(pipeline, { vae: 'fp16', target: 'ort-cpu' })).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringContaining('does not fit into FP16'),
    });
  });
});
