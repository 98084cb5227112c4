/**
 * A forward of the INT8 model on onnxruntime's CPU provider, at the 5B's widths: beside FP32, and beside the model that onnxruntime's own quantizer
 * makes of the same linears. The models run in turn, each in a process of its own; how many linears run on an integer kernel is counted in
 * the graph as onnxruntime optimized it.
 *
 *   npm run build && npx tsx bench/latency.ts [--model FOLDER] [--runs 5]
 *
 * The peer needs Python with onnx, onnxruntime and safetensors (PYTHON=path/to/python); without it only FP32 and wanq are timed.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { calibrate } from '../src/calibrate/calibrate.js';
import { loadGraph } from '../src/onnx/load.js';
import { quantize } from '../src/quantize/quantize.js';
import { SCHEMES } from '../src/quantize/scheme.js';
import { RuntimeHost } from '../src/runtime/host.js';
import { makeFullShape } from './lib/full-shape.js';
import { measure, median } from './lib/measure.js';
import { hasPeer, nodesOf, oneForward, peerCommand } from './lib/peer.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({ options: { model: { type: 'string' }, runs: { type: 'string', default: '5' } } });
const size = { frames: 13, height: 512, width: 512 };
const INTEGER_KERNELS = ['MatMulIntegerToFloat', 'QLinearMatMul', 'MatMulInteger', 'DynamicQuantizeMatMul'];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-bench-'));
try {
  const pipeline = values.model ?? (await makeFullShape('2-blocks-fp32', path.join(work, 'model'))).folder;
  const model = path.join(pipeline, 'transformer', 'model.onnx');
  const feeds = await oneForward(pipeline, size);
  const withPeer = hasPeer();
  const calibration = path.join(work, 'calibration.safetensors');
  const sampling = {
    steps: 1,
    guidance: 1,
    seed: 0,
    buckets: 1,
    negativePrompt: '',
    device: 'cpu',
    tokens: 'auto',
  } as const;
  await calibrate({ pipeline, ...size, ...sampling, syntheticInputs: 1, output: calibration });

  const models = new Map<string, { file: string; linears: number }>([['FP32', { file: model, linears: 0 }]]);
  for (const scheme of SCHEMES) {
    const output = path.join(work, `wanq-${scheme}`);
    const options = { scheme, target: 'ort-cpu', method: 'kl', percentile: 99.999, keep: [], link: true } as const;
    await quantize({ pipeline, calibration, output, ...options });
    const names = await nodesOf(model, scheme);
    models.set(`${scheme}, wanq`, { file: path.join(output, 'transformer', 'model.onnx'), linears: names.length });
    if (!withPeer) continue;
    const peer = await peerCommand(model, feeds, names, work, `peer-${scheme}`);
    await measure(peer.command, peer.args);
    models.set(`${scheme}, onnxruntime's tool`, { file: peer.output, linears: names.length });
  }

  const hosts = new Map([...models.keys()].map((name) => [name, new RuntimeHost()]));
  const times = new Map<string, number[]>();
  const kernels = new Map<string, number>();
  try {
    const sessions = new Map<string, Awaited<ReturnType<RuntimeHost['createSession']>>>();
    for (const [name, { file }] of models) {
      const optimizedModelPath = path.join(work, 'optimized.onnx');
      const counted = name === 'FP32' ? {} : { optimizedModelPath };
      const session = await (hosts.get(name) as RuntimeHost).createSession(
        { path: file },
        { providers: ['cpu'], ...counted },
      );
      sessions.set(name, session);
      if (name === 'FP32') continue;
      const { graph } = await loadGraph(optimizedModelPath);
      kernels.set(name, graph.nodes.filter(({ opType }) => INTEGER_KERNELS.includes(opType)).length);
      await rm(optimizedModelPath);
    }
    for (let run = 0; run <= Number(values.runs); run++) {
      for (const [name, session] of sessions) {
        const { ms } = await session.run(feeds);
        if (run > 0) times.set(name, [...(times.get(name) ?? []), ms]);
      }
    }
  } finally {
    for (const host of hosts.values()) await host.close();
  }
  const fp32 = median(times.get('FP32') ?? []);
  const rows = [...models].map(([name, { linears }]): Row => {
    const ms = median(times.get(name) ?? []);
    return {
      model: name,
      'forward, ms': ms,
      'of FP32': ms / fp32,
      'quantized linears': linears,
      'on integer kernels': kernels.get(name) ?? 0,
    };
  });
  await report('latency', {
    title: "INT8 on onnxruntime's CPU provider at the 5B's widths",
    command: `npx tsx bench/latency.ts ${process.argv.slice(2).join(' ')}`,
    rows,
    notes: [
      `Median of ${values.runs} forwards of two blocks over 1,024 video and 512 text tokens, the models in turn.`,
    ],
  });
} finally {
  await rm(work, { recursive: true, force: true });
}
