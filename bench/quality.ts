/**
 * Quality of wanq's quantization beside onnxruntime's own quantizer, on the micro pipeline: same calibration chain, same evaluation, prompts
 * that calibration never saw.
 *
 *   npm run build && npx tsx bench/quality.ts [--prompts N] [--quick]
 *
 * The peer needs Python with onnx, onnxruntime, numpy and safetensors (PYTHON=path/to/python); without it only wanq's rows are printed.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { SharedReference } from '../src/evaluate/shared-reference.js';
import { randn } from '../src/numerics/rng.js';
import { runChain } from '../src/pipeline/denoise.js';
import { latentElements } from '../src/pipeline/geometry.js';
import { PipelineFolder } from '../src/pipeline/layout.js';
import { describePipeline, openDenoiser } from '../src/pipeline/open.js';
import { readScheduler } from '../src/pipeline/schedulers/index.js';
import { encodePrompts, type PromptEmbeddings } from '../src/pipeline/text-encoder.js';
import type { RangeMethod, Smoothing } from '../src/quantize/options.js';
import type { Target } from '../src/quantize/target.js';
import { RuntimeHost } from '../src/runtime/host.js';
import { copyTree } from '../src/util/files.js';
import { type SafeTensor, writeSafetensors } from '../src/util/safetensors.js';
import {
  calibrateMicro,
  evaluateMicro,
  MICRO_PIPELINE,
  metricOf,
  promptsOf,
  quantizeMicro,
  SAMPLING,
} from './lib/micro.js';
import { ROOT } from './lib/paths.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: { prompts: { type: 'string', default: '8' }, quick: { type: 'boolean', default: false } },
});
const python = process.env.PYTHON ?? 'python3';
const CPU = { providers: ['cpu'] };

/** The three kinds of activations, and the quantizers of each. */
const KINDS: readonly {
  readonly name: string;
  readonly target: Target;
  readonly peer?: 'int8' | 'uint8';
  readonly ours: readonly (readonly [RangeMethod, Smoothing])[];
}[] = [
  {
    name: 'S8, one scale a tensor',
    target: 'tensorrt',
    peer: 'int8',
    ours: [
      ['auto', 'auto'],
      ['kl', 'none'],
    ],
  },
  {
    name: 'U8, one scale a tensor',
    target: 'ort-cpu',
    peer: 'uint8',
    ours: [
      ['auto', 'auto'],
      ['kl', 'none'],
    ],
  },
  {
    name: 'S8, one scale a token',
    target: 'ort-cuda',
    ours: [
      ['auto', 'auto'],
      ['auto', 'none'],
    ],
  },
];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-quality-'));
const shared = await SharedReference.open();
try {
  const prompts = await promptsOf('calibration', Number(values.prompts));
  const calibration = await calibrateMicro(work, prompts.length);
  const feeds = path.join(work, 'feeds.safetensors');
  await recordFeeds(prompts, feeds);
  const peer =
    spawnSync(python, ['-c', 'import onnx, onnxruntime, numpy, safetensors'], { stdio: 'ignore' }).status === 0;
  if (!peer) console.error(`skipped the peer: ${python} lacks onnx, onnxruntime, numpy or safetensors`);

  const rows: Row[] = [];
  for (const scheme of ['ffn', 'blocks'] as const) {
    for (const { name, target, peer: type, ours } of KINDS) {
      const made: [string, string][] = [];
      for (const [method, smooth] of values.quick ? ours.slice(0, 1) : ours) {
        const output = path.join(work, `wanq-${scheme}-${target}-${method}-${smooth}`);
        await quantizeMicro({ scheme, target, method, smooth, calibration, output });
        const how = type ? `, ranges ${method}` : '';
        made.push([`wanq${how}, smoothing ${smooth}`, output]);
      }
      for (const method of peer && type ? ['minmax', 'percentile'] : []) {
        const output = path.join(work, `ort-${scheme}-${type}-${method}`);
        await copyTree(MICRO_PIPELINE, output, false);
        const script = path.join(ROOT, 'bench', 'peer_ort.py');
        const args = [script, MICRO_PIPELINE, feeds, scheme, type as string, method, output];
        const { status, stderr } = spawnSync(python, args, { encoding: 'utf8' });
        if (status !== 0) throw new Error(stderr);
        made.push([`onnxruntime, ${method}`, output]);
      }
      for (const [quantizer, quantized] of made) {
        const results = await evaluateMicro(quantized, MICRO_PIPELINE, true, shared);
        const figure = (metric: string, digits: number): number =>
          Number(metricOf(results, metric).toFixed(digits)) + 0;
        const row = {
          scheme,
          activations: name,
          quantizer,
          MB: Number((results.quantized.transformerBytes / 1e6).toFixed(2)),
          'SQNR dB': figure('sqnr', 2),
          'worst dB': figure('sqnr_min', 2),
          'PSNR drop dB': figure('psnr_drop', 3),
          'worst drop dB': figure('psnr_drop_max', 3),
          'free run PSNR, median dB': figure('psnr_median', 1),
        };
        rows.push(row);
        console.error(Object.values(row).join(' '));
      }
    }
  }
  await report('quality', {
    title: 'Quality beside onnxruntime',
    command: `npx tsx bench/quality.ts --prompts ${values.prompts}`,
    rows,
    notes: [
      `Both quantizers calibrated on the same ${prompts.length} prompts; judged on 4 others, 20 steps, both branches.`,
    ],
  });
} finally {
  await shared.close();
  await rm(work, { recursive: true, force: true });
}

/** What the transformer is fed along the calibration chain, for a quantizer that brings its own statistics. */
async function recordFeeds(prompts: readonly string[], file: string): Promise<void> {
  const folder = await PipelineFolder.open(MICRO_PIPELINE);
  const shape = await describePipeline(folder, {});
  const makeScheduler = await readScheduler(folder);
  const host = new RuntimeHost();
  const rows: { latents: Float32Array; timestep: number; text: Float32Array }[] = [];
  let features: PromptEmbeddings | undefined;
  try {
    const embeddings = await encodePrompts(folder, host, CPU, [...prompts, '']);
    const denoiser = await openDenoiser(host, { path: folder.modelPath('transformer') }, CPU, shape);
    for (const [index, prompt] of prompts.entries()) {
      features = embeddings.get(prompt) as PromptEmbeddings;
      await runChain({
        scheduler: makeScheduler(SAMPLING.steps),
        shape: shape.latents,
        noise: randn(index, latentElements(shape.latents)),
        guidance: SAMPLING.guidance,
        text: { cond: features, uncond: embeddings.get('') as PromptEmbeddings },
        predict: (calls) =>
          Promise.all(
            calls.map(async ({ input }) => {
              rows.push({ latents: input.latents, timestep: input.timestep, text: input.text.data });
              return (await denoiser.predict(input)).velocity;
            }),
          ),
      });
    }
  } finally {
    await host.close();
  }
  const { channels, frames, height, width } = shape.latents;
  const stack = (pick: (row: (typeof rows)[number]) => ArrayLike<number>, dims: number[]): SafeTensor => ({
    dtype: 'F32',
    shape: [rows.length, ...dims],
    data: Float32Array.from(rows.flatMap((row) => Array.from(pick(row)))),
  });
  const { length = 0, features: width0 = 0 } = features ?? {};
  await writeSafetensors(file, {
    metadata: {},
    tensors: new Map([
      ['hidden_states', stack((row) => row.latents, [channels, frames, height, width])],
      ['timestep', stack((row) => [row.timestep], [])],
      ['encoder_hidden_states', stack((row) => row.text, [length, width0])],
    ]),
  });
}
