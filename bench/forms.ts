/**
 * One linear of the 5B on onnxruntime's CPU provider, in every form that a quantized linear may have: time of a product, and how near to FP32 it
 * stays on normal values.
 *
 *   npm run build && npx tsx bench/forms.ts [--tokens 1024] [--runs 5]
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findLinears, type Linear } from '../src/analyze/linears.js';
import { Graph, Model, Node } from '../src/ir/graph.js';
import { asBytes, Tensor } from '../src/ir/tensor.js';
import { randn } from '../src/numerics/rng.js';
import { difference, sqnr } from '../src/numerics/stats.js';
import { loadGraph } from '../src/onnx/load.js';
import { saveModel } from '../src/onnx/save.js';
import { runPasses } from '../src/passes/pass.js';
import { type QuantizedLinear, quantizeLinears } from '../src/passes/quantize-linears.js';
import { removeUnused } from '../src/passes/remove-unused.js';
import { topologicalSort } from '../src/passes/topological-sort.js';
import { RuntimeHost } from '../src/runtime/host.js';
import { float32Tensor, type HostTensor, toFloat32 } from '../src/runtime/tensor.js';
import { memory } from '../test/helpers/source.js';
import { median } from './lib/measure.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: { tokens: { type: 'string', default: '1024' }, runs: { type: 'string', default: '5' } },
});
const tokens = Number(values.tokens);

const FORMS: readonly (readonly [string, ((linear: Linear) => QuantizedLinear) | undefined])[] = [
  ['FP32', undefined],
  ['QDQ, UINT8', (linear) => ({ linear, activation: { dtype: 'uint8', scale: Math.fround(8 / 255), zeroPoint: 128 } })],
  ['MatMulInteger, a UINT8 scale a token', (linear) => ({ linear, form: 'integer-dynamic', codes: 'uint8' })],
  ['MatMulInteger, an INT8 scale a token', (linear) => ({ linear, form: 'integer-dynamic' })],
  ['weights alone', (linear) => ({ linear, form: 'weights' })],
];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-forms-'));
const host = new RuntimeHost();
try {
  const rows: Row[] = [];
  for (const [role, inFeatures, outFeatures] of [
    ['ffn.up', 3072, 14336],
    ['ffn.down', 14336, 3072],
  ] as const) {
    const weight = randn(1, inFeatures * outFeatures).map((x) => 0.02 * x);
    const x = randn(2, tokens * inFeatures);
    let exact: Float32Array | undefined;
    let slowest = 0;
    for (const [name, form] of FORMS) {
      const model = linearOf(inFeatures, outFeatures, weight);
      const linears = form ? findLinears(model.graph).map(form) : [];
      runPasses(model, [quantizeLinears(linears), topologicalSort, removeUnused]);
      const folder = path.join(work, `${role} ${name}`);
      await mkdir(folder);
      await saveModel(model, memory, folder);
      const optimizedModelPath = path.join(folder, 'optimized.onnx');
      const session = await host.createSession(
        { path: path.join(folder, 'model.onnx') },
        { providers: ['cpu'], optimizedModelPath },
      );
      const times: number[] = [];
      let y = new Float32Array();
      for (let run = 0; run <= Number(values.runs); run++) {
        const { ms, outputs } = await session.run({ x: float32Tensor(x, [1, tokens, inFeatures]) });
        if (run > 0) times.push(ms);
        y = toFloat32(outputs.y as HostTensor) as Float32Array<ArrayBuffer>;
      }
      await session.release();
      const { nodes } = (await loadGraph(optimizedModelPath)).graph;
      const kernel = nodes.find(({ opType }) => opType.startsWith('MatMul'))?.opType ?? '';
      await rm(folder, { recursive: true });
      exact ??= y;
      const ms = median(times);
      slowest ||= ms;
      rows.push({
        linear: `${role} ${inFeatures} -> ${outFeatures}`,
        form: name,
        kernel,
        ms,
        'of FP32': ms / slowest,
        'SQNR dB': name === 'FP32' ? null : sqnr(difference(exact, y)),
      });
    }
  }
  await report('forms', {
    title: "Forms of a quantized linear on onnxruntime's CPU provider",
    command: `npx tsx bench/forms.ts ${process.argv.slice(2).join(' ')}`.trim(),
    rows,
    notes: [`Median of ${values.runs} runs over ${tokens} tokens, what quantizes the activation included.`],
  });
} finally {
  await host.close();
  await rm(work, { recursive: true, force: true });
}

function linearOf(inFeatures: number, outFeatures: number, weight: Float32Array): Model {
  return new Model({
    irVersion: 8,
    opsets: [{ domain: '', version: 20 }],
    graph: new Graph({
      name: 'linear',
      nodes: [new Node({ opType: 'MatMul', name: 'product', inputs: ['x', 'w'], outputs: ['y'] })],
      initializers: [Tensor.fromBytes('w', 'float32', [inFeatures, outFeatures], asBytes(weight))],
      inputs: [{ name: 'x', dtype: 'float32', dims: [1, 'tokens', inFeatures] }],
      outputs: [{ name: 'y', dtype: 'float32', dims: null }],
    }),
  });
}
