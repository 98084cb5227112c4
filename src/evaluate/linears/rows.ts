import type { Linear } from '../../analyze/linears.js';
import { type GraphIndex, indexGraph } from '../../ir/traverse.js';
import { activationScale } from '../../numerics/int8.js';
import { difference, sqnr } from '../../numerics/stats.js';
import type { LoadedModel } from '../../onnx/load.js';
import { WeightSample } from '../../quantize/fit/weight-sample.js';
import type { PlanFile } from '../../quantize/plan-file.js';
import type { LinearRow } from '../../report/results.js';
import type { RuntimeHost } from '../../runtime/host.js';
import { ahead } from '../../util/ahead.js';
import { channelFactors, expectedSqnr, scaleChannels, shareOutside } from './figures.js';
import type { LinearPair } from './pairs.js';
import { runLinear } from './probe.js';
import { staticScale } from './static-scale.js';

/** Below this share, a linear's input has too little of the reference's left to tell what the linear itself does. */
const LEAST_EXPLAINED = 0.5;

/** Sampled rows `[n, channels]` of a value. */
export type RowsOf = (value: string) => Promise<Float32Array>;

export interface LinearsContext {
  readonly host: RuntimeHost;
  readonly reference: LoadedModel;
  readonly quantized: LoadedModel;
  readonly rowsOfReference: RowsOf;
  readonly rowsOfQuantized: RowsOf;
  readonly plan: PlanFile | undefined;
  readonly sensitivities: ReadonlyMap<string, number> | undefined;
  /** Whether the reference has the weights that were quantized; else nothing says what is too much of an error. */
  readonly comparable: boolean;
  /** Takes over what an interrupted run finished. */
  step<T>(name: string, make: () => Promise<T>): Promise<T>;
  onLinear(): void;
}

/**
 * What each linear of the quantized model does by itself: its output against what the reference's linear makes of the same input. Errors of the
 * linears before it are in that input, and so in neither.
 */
export async function linearRows(pairs: readonly LinearPair[], context: LinearsContext): Promise<LinearRow[]> {
  const index = indexGraph(context.quantized.model.graph);
  const { producers } = indexGraph(context.reference.model.graph);
  const rows: LinearRow[] = [];
  const row = ([i, pair]: [number, LinearPair]): Promise<LinearRow> =>
    context.step(`linear ${i}`, () => linearRow(pair, index, producers, context));
  for await (const made of ahead([...pairs.entries()], row)) {
    rows.push(made);
    context.onLinear();
  }
  return rows;
}

async function linearRow(
  { key, linear, input, output, quantizer, factors: known }: LinearPair,
  index: GraphIndex,
  producers: GraphIndex['producers'],
  { host, reference, quantized, rowsOfReference, rowsOfQuantized, plan, sensitivities, comparable }: LinearsContext,
): Promise<LinearRow> {
  const seen = await rowsOfQuantized(input);
  const fitted = channelFactors(await rowsOfReference(linear.activation), seen, linear.inFeatures);
  const factors = sized(known.input, linear.inFeatures) ?? fitted.factors;
  const expected = await runLinear(host, reference, linear, producers, scaleChannels(seen, factors));
  const made = sqnr(difference(expected, undivided(linear, expected, await rowsOfQuantized(output), known.output)));
  const weights = await WeightSample.read([linear], reference);
  const gain = { gain: weights.gain, weightNoise: weights.weightNoise(factors) };
  const entry = plan?.linears[key];
  const { low = null, high = null } = entry ?? {};
  const scale = await staticScale(quantizer, quantized, index);
  const planned = scale && low !== null && high !== null ? activationScale(scale.dtype, low, high) : undefined;
  const promised = planned ?? scale;
  const attainable = expectedSqnr(seen, factors, gain, promised && [promised]);
  return {
    linear: key,
    shape: [linear.inFeatures, linear.outFeatures],
    precision: plan ? (entry?.precision ?? 'keep') : null,
    reason: entry?.reason ?? null,
    smoothing: typeof entry?.smooth === 'number' ? entry.smooth : null,
    low,
    high,
    clipped: low !== null && high !== null ? shareOutside(seen, low, high) : null,
    sqnr: made,
    attainable,
    excess: !comparable || fitted.explained < LEAST_EXPLAINED ? null : attainable - made,
    scaleRatio: planned && scale ? scale.scale / planned.scale : null,
    sensitivity: sensitivities?.get(key) ?? null,
  };
}

/**
 * The output as the reference has it: values of an attention may be divided by the smoothing factors of the linear behind it. Where the model does
 * not say which, they are fitted, but for their geometric mean, which is 1: an error of one channel alone goes unseen then.
 */
function undivided(
  { role, outFeatures }: Linear,
  expected: Float32Array,
  made: Float32Array,
  known: Float32Array | undefined,
): Float32Array {
  const divided = sized(known, outFeatures);
  if (divided) return scaleChannels(made, divided);
  if (!role.endsWith('.v')) return made;
  const { factors } = channelFactors(expected, made, outFeatures);
  const mean = Math.exp(factors.reduce((sum, factor) => sum + Math.log(factor), 0) / factors.length);
  return scaleChannels(
    made,
    factors.map((factor) => factor / mean),
  );
}

function sized(factors: Float32Array | undefined, channels: number): Float32Array | undefined {
  return factors?.length === channels ? factors : undefined;
}
