/**
 * Quality of wanq's quantization beside onnxruntime's own quantizer, on the micro pipeline: same calibration chain, same evaluation, prompts
 * that calibration never saw.
 *
 *   npx tsx bench/quality.ts [--quick]
 *
 * The peer needs Python with onnx, onnxruntime, numpy and safetensors (PYTHON=path/to/python); without it only wanq's rows are printed.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { calibrate } from '../src/calibrate/calibrate.js';
import { evaluate } from '../src/evaluate/evaluate.js';
import { randn } from '../src/numerics/rng.js';
import type { ThresholdMethod } from '../src/numerics/thresholds/index.js';
import { runChain } from '../src/pipeline/denoise.js';
import { latentElements } from '../src/pipeline/geometry.js';
import { PipelineFolder } from '../src/pipeline/layout.js';
import { describePipeline, openDenoiser } from '../src/pipeline/open.js';
import { readPrompts } from '../src/pipeline/prompts.js';
import { readScheduler } from '../src/pipeline/schedulers/index.js';
import { encodePrompts, type PromptEmbeddings } from '../src/pipeline/text-encoder.js';
import { quantize } from '../src/quantize/quantize.js';
import type { Scheme } from '../src/quantize/scheme.js';
import type { Target } from '../src/quantize/target.js';
import { RuntimeHost } from '../src/runtime/host.js';
import { copyTree } from '../src/util/files.js';
import { type SafeTensor, writeSafetensors } from '../src/util/safetensors.js';

const root = path.resolve(fileURLToPath(new URL('..', import.meta.url)));
const micro = path.join(root, 'fixtures', 'micro-wan');
const pipeline = path.join(micro, 'pipeline');
const quick = process.argv.includes('--quick');
const python = process.env.PYTHON ?? 'python3';
const CPU = { providers: ['cpu'] };
const sampling = { steps: 20, guidance: 5, negativePrompt: '', device: 'cpu' } as const;

const work = await mkdtemp(path.join(tmpdir(), 'wanq-quality-'));
try {
  const calibrationPrompts = (await readPrompts(path.join(root, 'prompts', 'calibration.txt'))).slice(0, 4);
  const evalPrompts = (await readPrompts(path.join(root, 'prompts', 'eval.txt'))).slice(0, 4);
  const calibration = path.join(work, 'calibration.safetensors');
  await calibrate({
    ...sampling,
    pipeline,
    prompts: calibrationPrompts,
    seed: 0,
    output: calibration,
    buckets: 5,
    tokens: 'auto',
  });
  const feeds = path.join(work, 'feeds.safetensors');
  await recordFeeds(calibrationPrompts, feeds);
  const peer =
    spawnSync(python, ['-c', 'import onnx, onnxruntime, numpy, safetensors'], { stdio: 'ignore' }).status === 0;
  if (!peer) console.error(`skipped the peer: ${python} lacks onnx, onnxruntime, numpy or safetensors`);

  const schemes: Scheme[] = ['ffn', 'blocks'];
  const types = { int8: 'tensorrt', uint8: 'ort-cpu' } as const;
  const methods: ThresholdMethod[] = quick ? ['kl'] : ['kl', 'minmax', 'percentile', 'mse'];
  const table = new Table({
    head: ['scheme', 'activations', 'quantizer', 'SQNR', 'worst', 'PSNR drop', 'PSNR', 'median PSNR'],
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
  });
  for (const scheme of schemes) {
    for (const [type, target] of Object.entries(types) as ['int8' | 'uint8', Target][]) {
      const rows: [string, string][] = [];
      for (const method of methods) {
        const output = path.join(work, `wanq-${scheme}-${type}-${method}`);
        await quantize({
          pipeline,
          calibration,
          scheme,
          target,
          method,
          percentile: 99.999,
          keep: [],
          output,
          link: true,
        });
        rows.push([`wanq ${method}`, output]);
      }
      for (const method of peer ? ['minmax', 'percentile'] : []) {
        const output = path.join(work, `ort-${scheme}-${type}-${method}`);
        await copyTree(pipeline, output, false);
        const script = path.join(root, 'bench', 'peer_ort.py');
        const { status, stderr } = spawnSync(python, [script, pipeline, feeds, scheme, type, method, output], {
          encoding: 'utf8',
        });
        if (status !== 0) throw new Error(stderr);
        rows.push([`onnxruntime ${method}`, output]);
      }
      for (const [name, quantized] of rows) {
        const { metrics } = await evaluate({
          ...sampling,
          reference: pipeline,
          quantized,
          prompts: evalPrompts,
          seedsPerPrompt: 1,
          seed: 1000,
          sigmas: [0.3, 0.5, 0.7, 0.85],
          clips: path.join(micro, 'clips.safetensors'),
          inspected: 4,
          noiseFloor: 'none',
        });
        const shown = ['sqnr', 'sqnr_min', 'psnr_drop', 'psnr', 'psnr_median'].map(
          (key) => metrics[key]?.value?.toFixed(2).replace(/^-0\.00$/, '0.00') ?? '-',
        );
        table.push([scheme, type, name, ...shown]);
        console.error(scheme, type, name, ...shown);
      }
    }
  }
  console.log(table.toString());
} finally {
  await rm(work, { recursive: true, force: true });
}

/** What the transformer is fed along the calibration chain, for a quantizer that brings its own statistics. */
async function recordFeeds(prompts: readonly string[], file: string): Promise<void> {
  const folder = await PipelineFolder.open(pipeline);
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
        scheduler: makeScheduler(sampling.steps),
        shape: shape.latents,
        noise: randn(index, latentElements(shape.latents)),
        guidance: sampling.guidance,
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
