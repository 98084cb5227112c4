import type { Linear } from '../../analyze/linears.js';
import { type Calibration, HeldTokens } from '../../calibrate/file.js';
import type { ActivationStatistics } from '../../calibrate/statistics.js';
import { printable, WanqError } from '../../errors.js';
import type { TensorSource } from '../../ir/tensor.js';
import { activationScale } from '../../numerics/int8.js';
import type { ScaleType } from '../../passes/linear-forms/form.js';
import type { QuantizedLinear } from '../../passes/quantize-linears.js';
import { isSmoothable, type SmoothedActivation } from '../../passes/smooth-activations.js';
import type { BoundPlan, PlannedActivation, PlannedLinear, PlanOptions, PlanRow, QuantPlan } from '../plan.js';
import { TARGET_TRAITS } from '../target.js';
import { type Fit, type FitOptions, fitActivation, needsTokens } from './fit.js';
import { WeightSample } from './weight-sample.js';

/** A plan whose activations have their ranges. */
export interface FittedPlan extends Omit<BoundPlan, 'planned'> {
  readonly quantized: readonly QuantizedLinear[];
  readonly smoothed: readonly SmoothedActivation[];
}

/** Where the kept tokens and the weights are read. */
export interface FitContext {
  readonly calibration: Calibration;
  /** Path of the calibration file. */
  readonly file: string;
  readonly weights: TensorSource;
  /** Output of a linear to what its input is to be divided by if it is smoothed, `[in]`; others have factors of their own strength. */
  readonly smoothing?: ReadonlyMap<string, Float32Array> | undefined;
  readonly onFitted?: ((done: number, total: number) => void) | undefined;
}

/**
 * Chooses smoothing and ranges of all activations that a plan quantizes.
 *
 * @param context absent without a calibration: nothing is smoothed then, and no activation of the plan has a static range
 * @throws WanqError CALIBRATION_INVALID where choices need kept tokens and the calibration has none
 */
export async function fitPlan(
  bound: BoundPlan,
  options: PlanOptions,
  context: FitContext | undefined,
): Promise<FittedPlan> {
  const { planned, ...rest } = bound;
  const fits = new Map<Linear, Fit>();
  const smoothed: SmoothedActivation[] = [];
  const groups = context ? groupsOf(planned, options) : [];
  const held = context && groups.some(({ fit }) => needsTokens(fit)) ? await HeldTokens.open(context.file) : undefined;
  try {
    for (const [i, group] of groups.entries()) {
      const fit = await fitGroup(group, context as FitContext, held);
      for (const linear of group.linears) fits.set(linear, fit);
      if (fit.smoothing) smoothed.push({ linears: group.linears, factors: fit.smoothing.factors });
      context?.onFitted?.(i + 1, groups.length);
    }
  } finally {
    await held?.close();
  }
  const activations = new Map<Linear, PlannedActivation>();
  const quantized = planned.map(({ linear, form, scaleType }): QuantizedLinear => {
    if (form === 'weights') return { linear, form, scaleType };
    const codes = TARGET_TRAITS[options.target].activation;
    if (form === 'integer-dynamic') return { linear, form, scaleType, codes };
    const range = fits.get(linear)?.range;
    if (!range) throw new Error(`${linear.role} has no range`);
    const scale = activationScale(codes, range.low, range.high, scaleType);
    const activation = { ...scale, ...range, value: linear.activation };
    activations.set(linear, activation);
    return { linear, form, activation, scaleType };
  });
  return { ...rest, plan: withFits(rest.plan, planned, fits, activations), quantized, smoothed };
}

function withFits(
  plan: QuantPlan,
  planned: readonly PlannedLinear[],
  fits: ReadonlyMap<Linear, Fit>,
  activations: ReadonlyMap<Linear, PlannedActivation>,
): QuantPlan {
  const linears = new Map(planned.map((each) => [each.row, each]));
  const rows = plan.rows.map((row): PlanRow => {
    const each = linears.get(row);
    if (!each) return row;
    const { linear } = each;
    return {
      ...row,
      activation: activations.get(linear) ?? null,
      warnings: warningsOf(each, activations.get(linear), fits.get(linear)),
      smoothing: fits.get(linear)?.smoothing?.alpha ?? null,
    };
  });
  return { ...plan, rows };
}

/** Scales below these have fewer digits than their type, and some GPUs take them for 0. */
const LEAST_NORMAL: Readonly<Record<ScaleType, number>> = { float32: 2 ** -125, float16: 2 ** -14 };

/** What is odd about the numbers of a linear's input. */
function warningsOf(
  { linear: { inFeatures }, scaleType }: PlannedLinear,
  activation: PlannedActivation | undefined,
  fit: Fit | undefined,
): string[] {
  const warnings = fit?.unsmoothed
    ? ['its input is not smoothed: smoothed values would leave the range of their type']
    : [];
  if (!activation) return warnings;
  const { min, max, low, high, scale, lostChannels } = activation;
  const number = (value: number): string => String(Number(value.toPrecision(3)));
  if (min === 0 && max === 0)
    return [...warnings, `its input was 0 throughout calibration: the scale is ${number(scale)}`];
  if (min === max) warnings.push(`its input was ${number(min)} throughout calibration`);
  if (scale < LEAST_NORMAL[scaleType]) {
    warnings.push(
      `its input is tiny (${number(low)} .. ${number(high)}): the scale is ${number(scale)}, at the end of ${NAMES[scaleType]}`,
    );
  }
  if (2 * lostChannels > inFeatures) {
    warnings.push(
      `${lostChannels} of ${inFeatures} channels of its input are rounded to 0: outliers make the range ${number(low)} .. ${number(high)}; smooth it, or keep this linear`,
    );
  }
  return warnings;
}

const NAMES: Readonly<Record<ScaleType, string>> = { float32: 'FP32', float16: 'FP16' };

/** Linears whose input is quantized once for all. */
interface Group {
  readonly value: string;
  readonly linears: Linear[];
  readonly fit: FitOptions;
}

function groupsOf(planned: readonly PlannedLinear[], options: PlanOptions): Group[] {
  const groups = new Map<string, Group>();
  for (const { linear, form, scaleType, entry } of planned) {
    if (form === 'weights') continue;
    const smooth = isSmoothable(linear) ? (entry?.smooth ?? options.smooth ?? 'none') : 'none';
    const dtype = form === 'integer-dynamic' ? null : TARGET_TRAITS[options.target].activation;
    const { low, high } = entry ?? {};
    // A range that is prescribed whole needs no search.
    const method = low === undefined || high === undefined ? options.method : 'minmax';
    const { percentile } = options;
    const prescribed = { low, high };
    const float16 = scaleType === 'float16' || linear.computeType === 'float16';
    const fit = { method, percentile, smooth, dtype, scaleType, float16, prescribed };
    const group = { value: linear.activation, fit };
    const key = JSON.stringify(group);
    const known = groups.get(key) ?? { ...group, linears: [] };
    known.linears.push(linear);
    groups.set(key, known);
  }
  return [...groups.values()];
}

async function fitGroup(
  { value, linears, fit: options }: Group,
  { calibration, file, weights, smoothing }: FitContext,
  tokens: HeldTokens | undefined,
): Promise<Fit> {
  const statistics = calibration.activations.find((activation) => activation.value === value) as ActivationStatistics;
  const fit = needsTokens(options)
    ? fitActivation(
        {
          statistics,
          held: await heldOf(value, tokens as HeldTokens, file),
          weights: await WeightSample.read(linears, weights),
          factors: smoothing?.get(linears[0]?.output as string),
        },
        options,
      )
    : fitActivation({ statistics }, options);
  if (!fit.range || fit.range.low <= fit.range.high) return fit;
  const { low, high } = fit.range;
  throw new WanqError(
    'PLAN_INVALID',
    `the range of ${printable(linears[0]?.role ?? value)} would be ${low} .. ${high}`,
    {
      hint: 'give it a low that is not above its high',
    },
  );
}

async function heldOf(value: string, tokens: HeldTokens, file: string): Promise<Map<number, Float32Array>> {
  const held = await tokens.read(value);
  if (![...held.values()].every((rows) => rows.every(Number.isFinite))) {
    throw new WanqError(
      'CALIBRATION_INVALID',
      `${printable(file)} keeps tokens of ${printable(value)} that hold NaN or infinity, which its ranges do not`,
      { hint: 'run `wanq calibrate` again' },
    );
  }
  if (held.size > 0) return held;
  throw new WanqError('CALIBRATION_INVALID', `${printable(file)} keeps no tokens to choose ranges and smoothing by`, {
    hint: 'calibrate again with more --held-tokens, or give --method minmax --smooth none',
  });
}
