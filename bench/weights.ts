/**
 * How weights are rounded: to nearest with a channel's largest magnitude as the last code, as `wanq quantize` does; clipped at the least squared
 * error; with the bias corrected; with errors compensated by the second moments of the inputs (GPTQ). On the micro pipeline, ranges and smoothing
 * chosen beforehand and the same for all, prompts and seeds that calibration never saw; beside what each would take at the 5B's size.
 *
 *   npm run build && npx tsx bench/weights.ts [--prompts N] [--quick]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { SharedReference } from '../src/evaluate/shared-reference.js';
import { weightScales } from '../src/numerics/int8.js';
import { calibrateMicro, evaluateMicro, MICRO_PIPELINE, metricOf } from './lib/micro.js';
import { type Row, report } from './lib/report.js';
import { meanOutputError } from './lib/rounding/bias-correction.js';
import { gptqOperations, momentBytes, type Shape, shapesOf5B, weightsOf } from './lib/rounding/cost.js';
import { compensation, gptq, type RoundingOrder } from './lib/rounding/gptq.js';
import { meanSquares, secondMoments } from './lib/rounding/moments.js';
import { clippedScales } from './lib/rounding/mse-clip.js';
import { type OpenLinear, OpenPipeline, type Quantization, type Rounded } from './lib/rounding/pipeline.js';
import { channelMaxima, roundToNearest } from './lib/rounding/weight.js';

const { values } = parseArgs({
  options: { prompts: { type: 'string', default: '8' }, quick: { type: 'boolean', default: false } },
});

interface Method {
  readonly name: string;
  /** Last code of a channel. */
  readonly scales: 'largest' | 'least error' | 'least weighted error';
  /** Of GPTQ; absent: to nearest. */
  readonly order?: RoundingOrder;
  readonly corrects?: boolean;
}

/** What `wanq quantize` does comes first. */
const METHODS: readonly Method[] = [
  { name: 'nearest', scales: 'largest' },
  { name: 'nearest, clipped by MSE', scales: 'least error' },
  { name: 'nearest, clipped by MSE weighted with E[x^2]', scales: 'least weighted error' },
  { name: 'nearest, bias corrected', scales: 'largest', corrects: true },
  { name: 'GPTQ', scales: 'largest', order: 'natural' },
  { name: 'GPTQ, largest inputs first', scales: 'largest', order: 'descending' },
  { name: 'GPTQ, largest inputs first, bias corrected', scales: 'largest', order: 'descending', corrects: true },
];

const QUICK = new Set([0, 2, 3, 5]);

const KINDS: readonly (Omit<Quantization, 'scheme'> & { readonly activations: string })[] = [
  { activations: 'none', target: 'webgpu', smooth: 'none' },
  { activations: 'S8, one scale a token', target: 'ort-cuda', smooth: 'none' },
  { activations: 'S8, one scale a token', target: 'ort-cuda', smooth: 'auto' },
  { activations: 'S8, one scale a tensor', target: 'tensorrt', smooth: 'none' },
  { activations: 'S8, one scale a tensor', target: 'tensorrt', smooth: 'auto' },
];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-weights-'));
const shared = await SharedReference.open();
try {
  const calibration = await calibrateMicro(work, Number(values.prompts));
  const methods = METHODS.filter((_, i) => !values.quick || QUICK.has(i));
  const rows: Row[] = [];
  for (const scheme of ['ffn', 'blocks'] as const) {
    for (const { activations, target, smooth } of KINDS) {
      if (values.quick && target !== 'webgpu' && smooth === 'none') continue;
      const pipeline = await OpenPipeline.open({ scheme, target, smooth }, calibration);
      try {
        let plain: number | undefined;
        for (const method of methods) {
          const start = performance.now();
          const rounded = roundAll(pipeline.linears, method);
          const seconds = (performance.now() - start) / 1000;
          const output = path.join(work, 'quantized');
          await pipeline.write(output, rounded);
          const results = await evaluateMicro(output, MICRO_PIPELINE, false, shared);
          await rm(output, { recursive: true });
          const sqnr = metricOf(results, 'sqnr');
          plain ??= sqnr;
          const row = {
            scheme,
            activations,
            smoothing: String(smooth),
            rounding: method.name,
            'SQNR dB': Number(sqnr.toFixed(2)),
            'gain dB': Number((sqnr - plain).toFixed(2)) + 0,
            'worst step dB': Number(metricOf(results, 'sqnr_min').toFixed(2)),
            seconds: Number(seconds.toFixed(3)),
            ...at5B(method, seconds, pipeline.linears, shapesOf5B(scheme)),
          };
          rows.push(row);
          console.error(Object.values(row).join(' '));
        }
      } finally {
        await pipeline.close();
      }
    }
  }
  await report('weights', {
    title: 'Rounding of weights',
    command: `npx tsx bench/weights.ts --prompts ${values.prompts}${values.quick ? ' --quick' : ''}`,
    rows,
    notes: [
      'SQNR: teacher-forced, mean over 20 steps, both branches and 4 prompts that calibration never saw.',
      'Round to nearest: the bench fails where its codes and scales are not, byte for byte, those that `wanq quantize` would write.',
      'Activations none: products of floats with the values that the codes stand for.',
      'seconds: rounding alone, one core, weights and tokens in memory. at 5B: these times the ratio of weights, of GPTQ the ratio of its multiply-adds; caches that no longer hold the matrices would add to it.',
      'moments at 5B: the second moments of one ffn.down input in FP64; what comes of them takes as much again.',
    ],
  });
} finally {
  await shared.close();
  await rm(work, { recursive: true, force: true });
}

function roundAll(linears: readonly OpenLinear[], { scales: ends, order, corrects }: Method): Map<OpenLinear, Rounded> {
  const rounded = new Map<OpenLinear, Rounded>();
  for (const readers of readersOf(linears).values()) {
    const [{ tokens, weight: first }] = readers as [OpenLinear];
    const compensates = order && compensation(secondMoments(tokens, first.inputs), order);
    const importance = ends === 'least weighted error' ? meanSquares(tokens, first.inputs) : undefined;
    for (const linear of readers) {
      const { weight, bias, codes } = linear;
      const scales = ends === 'largest' ? weightScales(channelMaxima(weight)) : clippedScales(weight, importance);
      const of = compensates ? gptq(weight, scales, compensates) : roundToNearest(weight, scales);
      const added = corrects ? meanOutputError(tokens, weight, of, codes) : undefined;
      rounded.set(linear, { ...of, bias: added ? bias.map((b, i) => b - (added[i] as number)) : bias });
    }
  }
  return rounded;
}

/** Linears that read the same activation. */
function readersOf(linears: readonly OpenLinear[]): Map<string, OpenLinear[]> {
  const readers = new Map<string, OpenLinear[]>();
  for (const linear of linears) {
    readers.set(linear.activation, [...(readers.get(linear.activation) ?? []), linear]);
  }
  return readers;
}

function at5B(
  { order }: Method,
  seconds: number,
  linears: readonly OpenLinear[],
  large: readonly Shape[],
): { 'seconds at 5B': number; 'moments at 5B, GB': number | null } {
  const here = [...readersOf(linears).values()].map((readers): Shape => {
    const [{ weight }] = readers as [OpenLinear];
    return { inputs: weight.inputs, outputs: readers.reduce((sum, reader) => sum + reader.weight.outputs, 0) };
  });
  const tokens = Math.max(...linears.map(({ tokens, weight }) => tokens.length / weight.inputs));
  const ratio = order
    ? gptqOperations(large, tokens) / gptqOperations(here, tokens)
    : weightsOf(large) / weightsOf(here);
  return { 'seconds at 5B': seconds * ratio, 'moments at 5B, GB': order ? momentBytes(large) / 1e9 : null };
}
