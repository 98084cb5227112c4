import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it, vi } from 'vitest';
import { run } from '../../../../src/cli/actions/inspect.js';
import { type Context, createContext } from '../../../../src/cli/context.js';
import type { Model } from '../../../../src/ir/graph.js';
import { Tensor } from '../../../../src/ir/tensor.js';
import { decodeModel, encodeModel } from '../../../../src/onnx/codec.js';
import { model, node } from '../../helpers/graphs.js';
import { temporaryFolder } from '../../helpers/temporary.js';

vi.mock('../../../../src/onnx/codec.js', { spy: true });

const WEIGHT = Tensor.float32('blocks.0.ffn.net.2.weight', [4, 4], new Float32Array(16));

/** What `inspect --json` prints of a pipeline with this transformer. */
async function inspect(transformer: Model): Promise<{ schemes: object[] }> {
  const pipeline = await temporaryFolder();
  await mkdir(path.join(pipeline, 'transformer'));
  await writeFile(path.join(pipeline, 'model_index.json'), '{}');
  await writeFile(path.join(pipeline, 'transformer', 'model.onnx'), encodeModel(transformer));
  vi.mocked(decodeModel).mockClear();
  let printed = '';
  const io = { stdout: { write: (text: string) => (printed += text) } } as unknown as Context['io'];
  const context = createContext(io, new AbortController().signal, { quiet: true, verbose: false, json: true });
  expect(await run(context, { positional: [pipeline], flags: {}, given: new Set() })).toBeUndefined();
  return JSON.parse(printed) as { schemes: object[] };
}

/** The rows of every scheme, with the other linears stored either way. */
function each(row: (scheme: string, float: string) => object): object[] {
  return ['ffn', 'blocks'].flatMap((scheme) => ['fp32', 'fp16'].map((float) => row(scheme, float)));
}

it('decodes a graph once for all schemes', async () => {
  const linear = node('MatMul', ['x', WEIGHT.name], 'y');
  const { schemes } = await inspect(model({ nodes: [linear], initializers: [WEIGHT], inputs: ['x'], outputs: ['y'] }));
  const after = { bytes: 16 + 5 * 4, share: 36 / 64 };
  expect(schemes).toEqual(each((scheme, float) => ({ scheme, float, ...after })));
  expect(decodeModel).toHaveBeenCalledTimes(1);
});

it('says of every scheme why a quantized graph cannot be quantized', async () => {
  const nodes = [node('QuantizeLinear', ['x', 'scale'], 'q'), node('MatMul', ['q', WEIGHT.name], 'y')];
  const scale = Tensor.float32('scale', [], [1]);
  const { schemes } = await inspect(model({ nodes, initializers: [WEIGHT, scale], inputs: ['x'], outputs: ['y'] }));
  const note = expect.stringContaining('is quantized already');
  expect(schemes).toEqual(each((scheme, float) => ({ scheme, float, note })));
});

it('says of a scheme that it quantizes nothing', async () => {
  const weight = Tensor.float32('blocks.0.attn1.to_q.weight', [4, 4], new Float32Array(16));
  const linear = node('MatMul', ['x', weight.name], 'y');
  const { schemes } = await inspect(model({ nodes: [linear], initializers: [weight], inputs: ['x'], outputs: ['y'] }));
  const none = { note: expect.stringContaining('quantizes none') };
  const all = { bytes: 36, share: 36 / 64 };
  expect(schemes).toEqual(each((scheme, float) => ({ scheme, float, ...(scheme === 'ffn' ? none : all) })));
});
