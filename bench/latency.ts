/**
 * A forward of the INT8 model on onnxruntime's CPU provider, at the 5B's widths: beside FP32, and beside the model that onnxruntime's own quantizer
 * makes of the same linears. The models run in turn, each in a process of its own; how many linears run on an integer kernel is counted in
 * the graph as onnxruntime optimized it.
 *
 *   npm run build && npx tsx bench/latency.ts [--model FOLDER] [--runs 5]
 *
 * The peer needs Python with onnx, onnxruntime and safetensors (PYTHON=path/to/python); without it only FP32 and wanq are timed.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findLinears } from '../src/analyze/linears.js';
import { calibrate } from '../src/calibrate/calibrate.js';
import { syntheticInputs } from '../src/calibrate/inputs.js';
import { randn } from '../src/numerics/rng.js';
import { loadGraph } from '../src/onnx/load.js';
import { transformerFeeds } from '../src/pipeline/denoise.js';
import { latentElements } from '../src/pipeline/geometry.js';
import { PipelineFolder } from '../src/pipeline/layout.js';
import { describePipeline } from '../src/pipeline/open.js';
import { quantize } from '../src/quantize/quantize.js';
import { decide, SCHEMES, type Scheme } from '../src/quantize/scheme.js';
import { RuntimeHost } from '../src/runtime/host.js';
import type { HostTensor } from '../src/runtime/tensor.js';
import { type SafeTensor, writeSafetensors } from '../src/util/safetensors.js';
import { makeFullShape } from './lib/full-shape.js';
import { median } from './lib/measure.js';
import { ROOT } from './lib/paths.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({ options: { model: { type: 'string' }, runs: { type: 'string', default: '5' } } });
const python = process.env.PYTHON ?? 'python3';
const size = { frames: 13, height: 512, width: 512 };
const INTEGER_KERNELS = ['MatMulIntegerToFloat', 'QLinearMatMul', 'MatMulInteger', 'DynamicQuantizeMatMul'];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-bench-'));
try {
  const pipeline = values.model ?? (await makeFullShape('2-blocks-fp32', path.join(work, 'model'))).folder;
  const folder = await PipelineFolder.open(pipeline);
  const face = await describePipeline(folder, size);
  const feeds = transformerFeeds(face, {
    shape: face.latents,
    latents: randn(1, latentElements(face.latents)),
    timestep: 500,
    text: await syntheticInputs(1, 0, face.signature).cond(0),
  });
  const model = folder.modelPath('transformer');
  const feedsFile = path.join(work, 'feeds.safetensors');
  const tensors = new Map(Object.entries(feeds).map(([name, tensor]) => [name, safeTensor(tensor)]));
  await writeSafetensors(feedsFile, { metadata: {}, tensors });
  const modules = 'import onnx, onnxruntime, safetensors';
  const hasPeer = spawnSync(python, ['-c', modules], { stdio: 'ignore' }).status === 0;
  if (!hasPeer) console.error(`skipped the peer: ${python} cannot ${modules}`);
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
    const names = await chosen(model, scheme);
    models.set(`${scheme}, wanq`, { file: path.join(output, 'transformer', 'model.onnx'), linears: names.length });
    if (!hasPeer) continue;
    const peer = await peerModel(model, feedsFile, scheme, names);
    models.set(`${scheme}, onnxruntime's tool`, { file: peer, linears: names.length });
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

/** Node names of the linears that a scheme quantizes. */
async function chosen(model: string, scheme: Scheme): Promise<string[]> {
  return findLinears((await loadGraph(model)).graph)
    .filter((linear) => decide(scheme, linear, true).quantize)
    .map(({ node }) => node.name);
}

/** What onnxruntime's quantizer makes of the same nodes, calibrated on the same forward. */
async function peerModel(model: string, feeds: string, scheme: Scheme, nodes: readonly string[]): Promise<string> {
  const nodesFile = path.join(work, 'nodes.json');
  const output = path.join(work, `peer-${scheme}.onnx`);
  await writeFile(nodesFile, JSON.stringify(nodes));
  const script = path.join(ROOT, 'bench', 'peer_quantize.py');
  const { status, stderr } = spawnSync(python, [script, model, feeds, nodesFile, output], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr.slice(-2000));
  return output;
}

function safeTensor({ dtype, dims, data }: HostTensor): SafeTensor {
  const type = ({ float32: 'F32', int64: 'I64' } as const)[dtype as 'float32' | 'int64'];
  return { dtype: type, shape: dims, data: data as Float32Array | BigInt64Array };
}
