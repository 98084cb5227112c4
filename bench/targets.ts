/**
 * Every target on the micro pipeline: what its graph is made of, what the checker says of it, and how near to FP32 it stays on onnxruntime's CPU
 * provider, prompts and seeds that calibration never saw.
 *
 *   npm run build && npx tsx bench/targets.ts [--prompts N] [--method NAME] [--smooth none|auto|ALPHA] [--only TARGET] [--scheme ffn|blocks] [--webgpu]
 *
 * With --webgpu, the webgpu rows run on that provider, which wants a Vulkan driver (VK_ICD_FILENAMES).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { checkTarget } from '../src/check/check.js';
import { evaluate } from '../src/evaluate/evaluate.js';
import type { Activations, RangeMethod, Smoothing } from '../src/quantize/options.js';
import type { Target } from '../src/quantize/target.js';
import {
  calibrateMicro,
  evaluateMicro,
  MICRO_PIPELINE,
  metricOf,
  promptsOf,
  quantizeMicro,
  SAMPLING,
} from './lib/micro.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: {
    prompts: { type: 'string', default: '4' },
    method: { type: 'string', default: 'minmax' },
    smooth: { type: 'string', default: 'none' },
    only: { type: 'string' },
    scheme: { type: 'string' },
    webgpu: { type: 'boolean', default: false },
  },
});
const method = values.method as RangeMethod;
const smooth = (Number.isNaN(Number(values.smooth)) ? values.smooth : Number(values.smooth)) as Smoothing;

const CHOICES: readonly (readonly [Target, Activations | undefined])[] = [
  ['ort-cpu', 'static'],
  ['ort-cpu', 'dynamic'],
  ['tensorrt', 'static'],
  ['ort-cuda', 'static'],
  ['ort-cuda', 'dynamic'],
  ['directml', 'static'],
  ['webgpu', undefined],
];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-targets-'));
try {
  const calibration = await calibrateMicro(work, Number(values.prompts));
  const rows: Row[] = [];
  for (const scheme of ['ffn', 'blocks'] as const) {
    for (const [target, activations] of CHOICES) {
      if ((values.only ?? target) !== target || (values.scheme ?? scheme) !== scheme) continue;
      const output = path.join(work, `${target}-${activations}-${scheme}`);
      const { dataBytes, graphBytes } = await quantizeMicro({
        ...{ scheme, target, activations, method, smooth, calibration, output },
      });
      const { integer, weights, float } = await checkTarget(output, target);
      const onGpu = values.webgpu && target === 'webgpu';
      const results = onGpu ? await onWebgpu(output) : await evaluateMicro(output);
      const row = {
        target,
        activations: activations ?? 'floats',
        scheme,
        'ran on': onGpu ? 'webgpu' : 'cpu',
        'integer products': integer,
        'weights alone': weights,
        floats: float,
        'SQNR dB': metricOf(results, 'sqnr'),
        'worst step dB': metricOf(results, 'sqnr_min'),
        'size MB': (dataBytes + graphBytes) / 1e6,
      };
      rows.push(row);
      console.error(Object.values(row).join(' '));
      await rm(output, { recursive: true });
    }
  }
  await report('targets', {
    title: 'Targets',
    command: `npx tsx bench/targets.ts ${process.argv.slice(2).join(' ')}`.trim(),
    rows,
    notes: [
      `Calibrated on ${values.prompts} prompts x 20 steps, ranges by ${method}, smoothing ${smooth}; SQNR teacher-forced against FP32.`,
      'integer products, weights alone, floats: what `wanq check` says of the quantized products.',
      "On the CPU, onnxruntime quantizes the activations of weight-only products itself (MatMulNBits): webgpu's products are of floats.",
    ],
  });
} finally {
  await rm(work, { recursive: true, force: true });
}

/** One prompt, without clips: a forward on a Vulkan driver in software takes seconds. */
async function onWebgpu(quantized: string) {
  return evaluate({
    ...SAMPLING,
    ...{ reference: MICRO_PIPELINE, quantized, prompts: await promptsOf('eval', 1), seedsPerPrompt: 1, seed: 1000 },
    ...{ device: 'webgpu', deviceReference: 'cpu', sigmas: [0.5], inspected: 1, noiseFloor: 'none' },
  });
}
