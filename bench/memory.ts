/**
 * What a session of onnxruntime's CPU provider takes for weights in each form that wanq writes, beside what `wanq inspect` predicts: eight square
 * weights of 4,096 with pseudo-random values, one forward of 64 rows, each form in a process of its own.
 *
 *   npm run build && npx tsx bench/memory.ts
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findLinears, type Linear } from '../src/analyze/linears.js';
import { weightMemory } from '../src/analyze/memory.js';
import { Graph, Model, Node } from '../src/ir/graph.js';
import { Tensor, type TensorSource } from '../src/ir/tensor.js';
import { loadModel } from '../src/onnx/load.js';
import { saveModel } from '../src/onnx/save.js';
import { type Pass, runPasses } from '../src/passes/pass.js';
import { quantizeLinears } from '../src/passes/quantize-linears.js';
import { removeUnused } from '../src/passes/remove-unused.js';
import { storeFloat16 } from '../src/passes/store-float16.js';
import { topologicalSort } from '../src/passes/topological-sort.js';
import { RuntimeHost } from '../src/runtime/host.js';
import { float32Tensor } from '../src/runtime/tensor.js';
import { type Row, report } from './lib/report.js';

const [SIZE, COUNT, ROWS] = [4096, 8, 64];

type Form = readonly [name: string, rewrite: (linears: readonly Linear[]) => Pass[]];
const activation = { dtype: 'uint8', scale: 0.01, zeroPoint: 128 } as const;
const FORMS: readonly Form[] = [
  ['FP32', () => []],
  ['FP16, cast where it is read', (linears) => [storeFloat16(new Set(linears.map(({ weight }) => weight.name)))]],
  ['INT8, static activations', (all) => [quantizeLinears(all.map((linear) => ({ linear, activation })))]],
  ['INT8, dynamic activations', (all) => [quantizeLinears(all.map((linear) => ({ linear, form: 'integer-dynamic' })))]],
  ['INT8, weights alone', (all) => [quantizeLinears(all.map((linear) => ({ linear, form: 'weights' })))]],
];

/** COUNT products in a row. The weights are made when they are written: a process begins with the peak of the one that forked it. */
function products(): Model {
  const value = (i: number): string => (i === 0 ? 'x' : `y${i}`);
  const length = 4 * SIZE * SIZE;
  const weights = Array.from({ length: COUNT }, (_, i) => {
    return new Tensor(`w${i}`, 'float32', [SIZE, SIZE], {
      kind: 'external',
      location: 'made',
      offset: i * length,
      length,
    });
  });
  const graph = new Graph({
    name: 'products',
    nodes: weights.map(({ name }, i) => {
      return new Node({ opType: 'MatMul', name: `product${i}`, inputs: [value(i), name], outputs: [value(i + 1)] });
    }),
    initializers: weights,
    inputs: [{ name: 'x', dtype: 'float32', dims: ['rows', SIZE] }],
    outputs: [{ name: value(COUNT), dtype: 'float32', dims: ['rows', SIZE] }],
  });
  return new Model({ irVersion: 10, opsets: [{ domain: '', version: 20 }], graph });
}

const pseudoRandom: TensorSource = {
  read: () => Promise.reject(new Error('weights are made in tiles')),
  readInto: async ({ data }, start, target) => {
    // Alike, onnxruntime would pack them once for all.
    const first = ((data.kind === 'external' ? data.offset : 0) + start) / 4;
    const values = new Float32Array(target.buffer, target.byteOffset, target.byteLength / 4);
    for (let i = 0; i < values.length; i++) {
      values[i] = ((Math.imul(first + i, 2_654_435_761) >>> 0) / 2 ** 32 - 0.5) / 25;
    }
  },
};

/** Largest resident set of a runtime's process that has run a model, or none. */
async function peakOf(file: string | undefined): Promise<number> {
  const host = new RuntimeHost();
  try {
    if (file !== undefined) {
      const session = await host.createSession({ path: file }, { providers: ['cpu'] });
      await session.run({ x: float32Tensor(new Float32Array(ROWS * SIZE).fill(0.1), [ROWS, SIZE]) });
    }
    return (await host.status()).peakBytes;
  } finally {
    await host.close();
  }
}

const work = await mkdtemp(path.join(tmpdir(), 'wanq-bench-'));
try {
  const original = path.join(work, 'original');
  await mkdir(original);
  await saveModel(products(), pseudoRandom, original);
  const alone = await peakOf(undefined);
  const rows: Row[] = [];
  for (const [i, [name, rewrite]] of FORMS.entries()) {
    const folder = path.join(work, String(i));
    await mkdir(folder);
    const loaded = await loadModel(path.join(original, 'model.onnx'));
    runPasses(loaded.model, [...rewrite(findLinears(loaded.model.graph)), topologicalSort, removeUnused]);
    const { stored, cpu } = weightMemory(loaded.model.graph);
    await saveModel(loaded.model, loaded, folder);
    await loaded.close();
    const peak = (await peakOf(path.join(folder, 'model.onnx'))) - alone;
    rows.push({
      form: name,
      'stored, MB': stored / 1e6,
      'predicted, MB': cpu / 1e6,
      'peak above none, MB': peak / 1e6,
    });
  }
  const notes = [
    `the process without a model: ${(alone / 1e6).toFixed(0)} MB; a weight more is held for a moment while it is packed`,
  ];
  const command = 'npx tsx bench/memory.ts';
  await report('memory', { title: 'Memory of weights on the CPU provider', command, rows, notes });
} finally {
  await rm(work, { recursive: true, force: true });
}
