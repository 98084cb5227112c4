import { mkdtemp, readFile } from 'node:fs/promises';
import path from 'node:path';
import { onnx } from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import type { Model } from '../../../src/ir/graph.js';
import { Tensor, type TensorSource } from '../../../src/ir/tensor.js';
import { randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { float32Tensor } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { memory, read } from '../../helpers/source.js';
import { floats } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, modelOf, node, value } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

async function save(model: Model, source: TensorSource) {
  const target = await mkdtemp(path.join(folder, 'model-'));
  const sizes = await saveModel(model, source, target);
  return { file: path.join(target, 'model.onnx'), data: path.join(target, 'model.onnx_data'), sizes };
}

async function contents(model: Model, source: TensorSource) {
  return Promise.all(
    [...model.graph.initializers.values()].map(async (tensor) => ({
      name: tensor.name,
      dtype: tensor.dtype,
      dims: tensor.dims,
      bytes: Buffer.from(await source.read(tensor)).toString('base64'),
    })),
  );
}

interface Placed {
  name: string;
  location: string;
  offset: number;
  length: number;
}

/** Where onnx-proto, a reader of its own, finds the tensors of a file. */
async function independently(file: string): Promise<{ nodes: number; initializers: number; external: Placed[] }> {
  const graph = onnx.ModelProto.decode(await readFile(file)).graph;
  const initializers = graph?.initializer ?? [];
  const external = initializers
    .filter(({ dataLocation }) => dataLocation === onnx.TensorProto.DataLocation.EXTERNAL)
    .map(({ name, externalData }) => {
      const entries = new Map(externalData?.map(({ key, value }) => [key, value]));
      return {
        name: name ?? '',
        location: entries.get('location') ?? '',
        offset: Number(entries.get('offset')),
        length: Number(entries.get('length')),
      };
    });
  return { nodes: graph?.node?.length ?? 0, initializers: initializers.length, external };
}

describe('the micro transformer', async () => {
  const loaded = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));

  it('is read back with the same tensors', async () => {
    const before = await contents(loaded.model, loaded);
    const { file } = await save(loaded.model, loaded);
    const again = await loadModel(file);
    expect(await contents(again.model, again)).toEqual(before);
    await again.close();
    expect(await contents(loaded.model, loaded)).toEqual(before);
  });

  it('is read by onnx-proto, with its large tensors in the data file', async () => {
    const { file, data, sizes } = await save(loaded.model, loaded);
    const { nodes, initializers, external } = await independently(file);
    expect(nodes).toBe(loaded.model.graph.nodes.length);
    expect(initializers).toBe(loaded.model.graph.initializers.size);
    const bytes = await readFile(data);
    expect(sizes).toEqual({ graphBytes: (await readFile(file)).byteLength, dataBytes: bytes.byteLength });
    const large = [...loaded.model.graph.initializers.values()].filter(({ byteLength }) => byteLength >= 1024);
    expect(external.map(({ name }) => name).sort()).toEqual(large.map(({ name }) => name).sort());
    for (const { name, location, offset, length } of external) {
      const tensor = loaded.model.graph.initializers.get(name) as Tensor;
      expect([location, length]).toEqual(['model.onnx_data', tensor.byteLength]);
      expect(offset % (length >= 65536 ? 4096 : 64)).toBe(0);
      expect(bytes.subarray(offset, offset + length).equals(await loaded.read(tensor))).toBe(true);
    }
    const ends = external.map(({ offset, length }) => [offset, offset + length] as const).sort((a, b) => a[0] - b[0]);
    for (const [i, [start]] of ends.entries()) expect(start).toBeGreaterThanOrEqual(ends[i - 1]?.[1] ?? 0);
  });

  it('predicts the same bits', async () => {
    const { file } = await save(loaded.model, loaded);
    const feeds = {
      hidden_states: float32Tensor(randn(1, 12 * 16), [1, 12, 1, 4, 4]),
      timestep: float32Tensor(Float32Array.of(700), [1]),
      encoder_hidden_states: float32Tensor(randn(2, 3 * 64), [1, 3, 64]),
    };
    const [saved, original] = await Promise.all(
      [file, loaded.path].map(async (source) => (await host.createSession({ path: source }, CPU)).run(feeds)),
    );
    expect(original?.outputs.out_sample?.dims).toEqual([1, 12, 1, 4, 4]);
    expect(saved?.outputs).toEqual(original?.outputs);
  });
});

describe('a graph with tensors of every size and place', () => {
  const ROWS = { tiny: 1, small: 255, just: 256, unaligned: 257, paged: 16384, last: 20001 };
  const tensors = Object.entries(ROWS).map(([name, count], i) => Tensor.float32(name, [count], randn(i, count)));
  const rounded = (name: string, values: Float32Array): Tensor =>
    new Tensor(name, 'float32', [values.length], {
      kind: 'derived',
      source: Tensor.float32(name, [values.length], values),
      form: { as: 'float16-rounded' },
    });
  const derived = rounded('derived', randn(9, 300));
  const smallDerived = rounded('small_derived', Float32Array.of(0.25));
  const initializers = [...tensors, derived, smallDerived];
  const model = modelOf({
    nodes: [
      ...initializers.map(({ name }) => node('ReduceSum', [name], `${name}_sum`)),
      node('Sum', ['x', ...initializers.map(({ name }) => `${name}_sum`)], 'y'),
    ],
    initializers,
    inputs: [value('x', 'float32', [1])],
    outputs: [{ name: 'y', dtype: 'float32', dims: null }],
  });
  it('keeps tensors below 1 KiB in the graph and aligns the others', async () => {
    const { file } = await save(model, memory);
    const { external } = await independently(file);
    expect(external.map(({ name, offset, length }) => [name, offset, length])).toEqual([
      ['just', 0, 1024],
      ['unaligned', 1024, 1028],
      ['paged', 4096, 65536],
      ['last', 69632, 80004],
      ['derived', 149696, 1200],
    ]);
  });

  it('computes with all of them in onnxruntime', async () => {
    const { file } = await save(model, memory);
    const session = await host.createSession({ path: file }, { ...CPU, optimization: 'disabled' });
    const { outputs } = await session.run({ x: float32Tensor(Float32Array.of(2), [1]) });
    const sums = await Promise.all(
      initializers.map(async (tensor) => {
        const bytes = (await read(tensor)).slice();
        return new Float32Array(bytes.buffer).reduce((sum, x) => sum + x, 0);
      }),
    );
    expect(floats(outputs, 'y')[0]).toBeCloseTo(
      sums.reduce((a, b) => a + b, 2),
      2,
    );
  });

  it('tells how far it has come', async () => {
    const steps: [number, number][] = [];
    await saveModel(model, memory, await mkdtemp(path.join(folder, 'model-')), (done, total) =>
      steps.push([done, total]),
    );
    const total = 1024 + 1028 + 65536 + 80004 + 1200;
    expect(steps.at(-1)).toEqual([total, total]);
    expect(steps).toHaveLength(5);
  });
});
