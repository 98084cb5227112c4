import { cp } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { WanqError } from '../../../src/errors.js';
import { int } from '../../../src/ir/attribute.js';
import { DataType } from '../../../src/ir/dtype.js';
import { type Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { exists } from '../../../src/util/files.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();
const transformer = path.join(MICRO_PIPELINE, 'transformer');
let made = 0;

async function changed(change: (model: Model) => void, source = transformer): Promise<string> {
  const pipeline = path.join(folder, `pipeline-${made++}`);
  const isWeights = (file: string): boolean =>
    path.dirname(file) === transformer && /^model\.onnx/.test(path.basename(file));
  await cp(MICRO_PIPELINE, pipeline, { recursive: true, filter: (file) => !isWeights(file) });
  const loaded = await loadModel(path.join(source, 'model.onnx'));
  change(loaded.model);
  await saveModel(loaded.model, loaded, path.join(pipeline, 'transformer'));
  await loaded.close();
  return pipeline;
}

const quantized = (pipeline: string) =>
  quantize({
    ...{ pipeline, output: `${pipeline}-int8`, scheme: 'blocks', target: 'webgpu', method: 'minmax' },
    ...{ percentile: 99.9, keep: [], link: true, smooth: 'none' },
  });

async function refusal(pipeline: string): Promise<WanqError> {
  const error = await quantized(pipeline).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof WanqError)) throw error ?? new Error('it was quantized');
  expect(error.message).not.toContain('\n');
  expect(await exists(`${pipeline}-int8`)).toBe(false);
  return error;
}

/** Has the first product of two read its weight through another node. */
function through(model: Model, make: (weight: string) => { readonly nodes: Node[]; readonly tensors: Tensor[] }): void {
  const { graph } = model;
  const product = graph.nodes.find(
    ({ opType, inputs }) => opType === 'MatMul' && graph.initializers.has(inputs[1] ?? ''),
  );
  if (!product) throw new Error('there is no product');
  const { nodes, tensors } = make(product.inputs[1] as string);
  for (const tensor of tensors) graph.addInitializer(tensor);
  graph.nodes.unshift(...nodes);
  product.inputs[1] = nodes.at(-1)?.outputs[0] as string;
}

const nodeOf = (opType: string, inputs: string[], output: string, domain = '', attributes: Node['attributes'] = []) =>
  new Node({ opType, name: output, inputs, outputs: [output], domain, attributes });

describe('a model that cannot be quantized is refused in one line, and nothing is written', () => {
  it('one that wanq quantized', async () => {
    const pipeline = await changed(() => undefined);
    await quantized(pipeline);
    const again = await changed(() => undefined, path.join(`${pipeline}-int8`, 'transformer'));
    expect(await refusal(again)).toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringMatching(/is quantized already \(by wanq\)$/),
      hint: 'start from the FP32 or FP16 model',
    });
  });

  it.each(['float8e4m3fn', 'int4'] as const)('one with weights in %s', async (dtype) => {
    const pipeline = await changed((model) =>
      through(model, (weight) => {
        const { dims, elements } = model.graph.initializers.get(weight) as Tensor;
        const bytes = new Uint8Array(dtype === 'int4' ? Math.ceil(elements / 2) : elements);
        return {
          tensors: [Tensor.fromBytes('codes', dtype, dims, bytes), Tensor.float32('codes_scale', [], [0.1])],
          nodes: [nodeOf('DequantizeLinear', ['codes', 'codes_scale'], 'decoded')],
        };
      }),
    );
    expect(await refusal(pipeline)).toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringMatching(/is quantized already \(it has DequantizeLinear\)$/),
    });
  });

  it.each<[string, (model: Model) => void, string, RegExp]>([
    [
      'an IR version of the future',
      (model) => (model.irVersion = 99),
      'MODEL_UNSUPPORTED',
      /IR version 99, .* IR version 13$/,
    ],
    [
      'an opset of the future',
      (model) => (model.opsets = [{ domain: '', version: 99 }]),
      'MODEL_UNSUPPORTED',
      /opset 99 /,
    ],
    ['an opset of long ago', (model) => (model.opsets = [{ domain: '', version: 9 }]), 'MODEL_UNSUPPORTED', /opset 9/],
    [
      'an operator of a domain that onnxruntime does not know',
      (model) => {
        model.opsets = [...model.opsets, { domain: 'my.own', version: 1 }];
        through(model, (weight) => ({ tensors: [], nodes: [nodeOf('Decode', [weight], 'decoded', 'my.own')] }));
      },
      'RUNTIME_FAILED',
      /Decode/,
    ],
  ])('one with %s', async (_, change, code, says) => {
    const error = await refusal(await changed(change));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(says);
  });

  it('of weights in FP8 without scales, the product stays as it is and is told of', async () => {
    const pipeline = await changed((model) =>
      through(model, (weight) => {
        const { dims, elements } = model.graph.initializers.get(weight) as Tensor;
        return {
          tensors: [Tensor.fromBytes('codes', 'float8e4m3fn', dims, new Uint8Array(elements).fill(0x38))],
          nodes: [nodeOf('Cast', ['codes'], 'decoded', '', [int('to', DataType.float32)])],
        };
      }),
    );
    const { plan } = await quantized(pipeline);
    expect(plan.leftovers.reduce((sum, { count }) => sum + count, 0)).toBe(1);
  });
});
