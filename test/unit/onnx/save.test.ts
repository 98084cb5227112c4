import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Model } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { fingerprint, type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { memory, read } from '../../helpers/source.js';
import { expectRejection } from '../helpers/errors.js';
import { model, node } from '../helpers/graphs.js';
import { temporaryFolder } from '../helpers/temporary.js';

const ramp = (length: number, start: number): Float32Array => Float32Array.from({ length }, (_, i) => start + i);

/** Values that float16 holds exactly, as what comes of a source tensor. */
function rounded(name: string, values: Float32Array): Tensor {
  const dims = values.length === 1 ? [] : [values.length];
  const source = Tensor.float32(name, dims, values);
  return new Tensor(name, 'float32', dims, { kind: 'derived', source, form: { as: 'float16-rounded' } });
}

function withWeights(): Model {
  return model({
    nodes: [node('Sum', ['small', 'medium', 'large', 'derived'], 'y')],
    initializers: [
      Tensor.float32('small', [4], ramp(4, 0)),
      Tensor.float32('medium', [300], ramp(300, 100)),
      Tensor.float32('large', [128, 256], ramp(128 * 256, 7)),
      rounded('derived', ramp(301, -5)),
      rounded('derivedScalar', ramp(1, 9)),
    ],
    outputs: ['y'],
  });
}

async function load(folder: string): Promise<LoadedModel> {
  const loaded = await loadModel(path.join(folder, 'model.onnx'));
  onTestFinished(() => loaded.close());
  return loaded;
}

describe('saveModel', () => {
  it('writes weights that loadModel reads back', async () => {
    const folder = await temporaryFolder();
    const original = withWeights();
    await saveModel(original, memory, folder);
    const loaded = await load(folder);
    expect([...loaded.model.graph.initializers.keys()]).toEqual([...original.graph.initializers.keys()]);
    for (const [name, tensor] of original.graph.initializers) {
      const written = loaded.model.graph.initializers.get(name) as Tensor;
      expect(Buffer.from(await loaded.read(written)).equals(await read(tensor)), name).toBe(true);
    }
  });

  it('keeps tensors below 1 kB in the graph, and aligns the others in the data file', async () => {
    const folder = await temporaryFolder();
    const saved = await saveModel(withWeights(), memory, folder);
    const { initializers } = (await load(folder)).model.graph;
    const placed = Object.fromEntries(
      [...initializers].map(([name, { data }]) => [name, data.kind === 'external' ? data.offset : data.kind]),
    );
    expect(placed).toEqual({ small: 'bytes', medium: 0, large: 4096, derived: 4096 + 131072, derivedScalar: 'bytes' });
    expect(saved.dataBytes).toBe(4096 + 131072 + 1204);
    expect((await stat(path.join(folder, 'model.onnx_data'))).size).toBe(saved.dataBytes);
    expect((await stat(path.join(folder, 'model.onnx'))).size).toBe(saved.graphBytes);
  });

  it('writes no data file where nothing is large', async () => {
    const folder = await temporaryFolder();
    const saved = await saveModel(model({ nodes: [node('Neg', ['x'], 'y')] }), memory, folder);
    expect(saved.dataBytes).toBe(0);
    await expect(stat(path.join(folder, 'model.onnx_data'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('leaves the model as it was', async () => {
    const original = withWeights();
    const before = [...original.graph.initializers];
    await saveModel(original, memory, await temporaryFolder());
    expect([...original.graph.initializers].every(([, tensor], i) => tensor === before[i]?.[1])).toBe(true);
  });

  it('reports progress up to all external bytes', async () => {
    const progress: [number, number][] = [];
    await saveModel(withWeights(), memory, await temporaryFolder(), (done, total) => progress.push([done, total]));
    expect(progress).toEqual([
      [1200, 133476],
      [132272, 133476],
      [133476, 133476],
    ]);
  });

  it('never overwrites', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'model.onnx'), 'mine');
    await expect(saveModel(withWeights(), memory, folder)).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await readFile(path.join(folder, 'model.onnx'), 'utf8')).toBe('mine');
  });
});

describe('fingerprint', () => {
  const saved = async (): Promise<string> => {
    const folder = await temporaryFolder();
    await saveModel(withWeights(), memory, folder);
    return folder;
  };
  const changeByte = async (folder: string, at: number): Promise<void> => {
    const file = path.join(folder, 'model.onnx_data');
    const bytes = await readFile(file);
    bytes[at] = (bytes[at] as number) ^ 1;
    await writeFile(file, bytes);
  };

  it('is the same for a copy, in 64 hexadecimal digits', async () => {
    const [a, b] = [await fingerprint(await load(await saved())), await fingerprint(await load(await saved()))];
    expect(a).toBe(b);
    expect(a).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each([
    ['the first byte of a weight', 4096],
    ['the last byte of a weight', 4096 + 131072 - 1],
  ])('changes with %s', async (_, at) => {
    const folder = await saved();
    const before = await fingerprint(await load(folder));
    await changeByte(folder, at);
    expect(await fingerprint(await load(folder))).not.toBe(before);
  });

  it('refuses a truncated data file', async () => {
    const folder = await saved();
    const loaded = await load(folder);
    await truncate(path.join(folder, 'model.onnx_data'), 5000);
    await expectRejection(fingerprint(loaded), 'EXTERNAL_DATA_INVALID');
    await expectRejection(load(folder), 'EXTERNAL_DATA_INVALID');
  });
});

describe('loadModel', () => {
  it('names the file it cannot decode', async () => {
    const file = path.join(await temporaryFolder(), 'broken.onnx');
    await writeFile(file, 'not a model');
    await expect(loadModel(file)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining(file),
    });
  });

  it('refuses a missing file and a folder', async () => {
    const folder = await temporaryFolder();
    await expectRejection(loadModel(path.join(folder, 'absent.onnx')), 'NOT_FOUND');
    await expectRejection(loadModel(folder), 'NOT_READABLE');
  });

  it('reads inline tensors and refuses strings', async () => {
    const folder = await temporaryFolder();
    const strings = new Tensor('s', 'string', [1], { kind: 'strings', strings: [Uint8Array.of(97)] });
    const made = model({ nodes: [node('Neg', ['w'], 'y')], initializers: [Tensor.float32('w', [1], [5]), strings] });
    await writeFile(path.join(folder, 'model.onnx'), encodeModel(made));
    const { model: loaded, read: readLoaded } = await load(folder);
    const bytes = await readLoaded(loaded.graph.initializers.get('w') as Tensor);
    expect([...new Float32Array(bytes.slice().buffer)]).toEqual([5]);
    await expect(readLoaded(loaded.graph.initializers.get('s') as Tensor)).rejects.toThrow('holds strings');
  });
});
