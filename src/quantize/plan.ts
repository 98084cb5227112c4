import { findProducts, type LeftoverCount, type Products } from '../analyze/leftovers.js';
import type { Linear } from '../analyze/linears.js';
import { blockCount, selectLinears } from '../analyze/select.js';
import type { Calibration } from '../calibrate/file.js';
import { nonFiniteText, type SliceStatistics } from '../calibrate/statistics.js';
import { printable, WanqError } from '../errors.js';
import { isQuantizableFloat } from '../ir/dtype.js';
import type { Graph } from '../ir/graph.js';
import type { ActivationScale } from '../numerics/int8.js';
import type { ThresholdMethod } from '../numerics/thresholds/index.js';
import { exceedsFloat16 } from '../passes/float16-region.js';
import type { LinearForm, ScaleType } from '../passes/quantize-linears.js';
import type { Activations, FloatStorage, RangeMethod, Smoothing } from './options.js';
import { type PlanEntry, type PlanFile, planKeys, resolvePlan } from './plan-file.js';
import { type Int8Precision, isInt8, type Precision } from './precision.js';
import { decide, type Scheme } from './scheme.js';
import { computesFloat16, formOf, int8Precision, scaleTypeOf, type Target } from './target.js';

/** How the input of a quantized linear is quantized, and what was measured of it. */
export interface PlannedActivation extends ActivationScale {
  readonly value: string;
  readonly method: ThresholdMethod;
  /** What the range that the method found was multiplied with. */
  readonly headroom: number;
  /** Range that is quantized, after smoothing. */
  readonly low: number;
  readonly high: number;
  /** Range that was seen, after smoothing. */
  readonly min: number;
  readonly max: number;
  /** Share of sampled values outside [low, high]. */
  readonly clippedShare: number;
  /** Thresholds compared. */
  readonly candidates: number;
  /** Channels that held values other than 0, all of which are rounded to 0. */
  readonly lostChannels: number;
}

/** One row for every linear of the graph. */
export interface PlanRow {
  /** What a plan file calls it. */
  readonly key: string;
  readonly node: string;
  readonly role: string;
  readonly kind: Linear['kind'];
  /** Name of the value that it reads. */
  readonly input: string;
  /** [in, out] features. */
  readonly weightShape: readonly [number, number];
  readonly decision: Precision;
  readonly reason: string;
  /** What is odd about the numbers of its input, a sentence each. */
  readonly warnings: readonly string[];
  /** Of `int8` alone: other precisions have no scale of their own for it. */
  readonly activation: PlannedActivation | null;
  /** Strength of smoothing of its input; null: none. */
  readonly smoothing: number | null;
  /** Bytes of the weight (and its scales) as it is, and as planned. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

export interface QuantPlan {
  /** Fingerprint of the transformer; null where it was not asked for. */
  readonly model: string | null;
  readonly scheme: Scheme | 'plan';
  readonly target: Target;
  readonly method: RangeMethod;
  readonly smooth: Smoothing;
  /** Of the linears that are quantized, unless their rows say otherwise. */
  readonly precision: Int8Precision;
  readonly float: FloatStorage;
  readonly rows: readonly PlanRow[];
  /** Linears that FP16 was asked for and that stay FP32, for values that would not fit. */
  readonly overflow: readonly Overflow[];
  /** Operators with weights that are no linears and stay as they are. */
  readonly leftovers: readonly LeftoverCount[];
  /** Whether the roles are those of a Wan transformer; if not, every linear is quantized alike. */
  readonly knownModel: boolean;
  /** Bytes of all initializers of the graph, before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

/** A value that is too large for FP16, and the linear that reads or makes it. */
export interface Overflow {
  readonly role: string;
  readonly value: string;
  /** Largest seen in calibration. */
  readonly magnitude: number;
}

export interface PlanOptions {
  readonly float?: FloatStorage | undefined;
  readonly scheme: Scheme;
  readonly target: Target;
  /** Absent: what suits the target. */
  readonly activations?: Activations | undefined;
  readonly method: RangeMethod;
  readonly percentile: number;
  /** Absent: none. */
  readonly smooth?: Smoothing | undefined;
  /** Globs over roles and node names that keep their precision. */
  readonly keep: readonly string[];
  /** Decides instead of the scheme, `activations` and `keep`. */
  readonly plan?: PlanFile | undefined;
}

/** Whether a calibration decides anything: ranges of activations, or what is too large for FP16. @throws WanqError USAGE as {@link makePlan} */
export function needsCalibration({ target, activations, float, plan }: PlanOptions): boolean {
  const ranges = plan
    ? Object.values(plan.linears).some(({ precision }) => precision === 'int8')
    : int8Precision(target, activations) === 'int8';
  return ranges || computesFloat16(target, float);
}

/** A linear that is to be quantized. */
export interface PlannedLinear {
  readonly linear: Linear;
  readonly form: LinearForm;
  readonly scaleType: ScaleType;
  /** What a plan file says of it. */
  readonly entry: PlanEntry | undefined;
  readonly row: PlanRow;
}

/** A plan with the graph objects its rows speak of, for the rewrite. */
export interface BoundPlan {
  /** Without ranges and smoothing. */
  readonly plan: QuantPlan;
  readonly planned: readonly PlannedLinear[];
  /** Initializers to store as float16. */
  readonly halved: ReadonlySet<string>;
  /** Linears to compute in float16. */
  readonly computed: readonly Linear[];
  /** Largest magnitude that was seen of a value. */
  readonly magnitudes: ReadonlyMap<string, number>;
}

/**
 * Decides for every linear whether and how it is quantized. Reads no weights.
 *
 * @param calibration absent for a dry run without scales, or where no linear is to have a static one
 * @throws WanqError PATTERN_UNMATCHED; PLAN_INVALID; USAGE where the target does not take the precision; CALIBRATION_MISMATCH where an activation was never observed; MODEL_UNSUPPORTED where nothing can be
 * quantized
 */
export function makePlan(
  graph: Graph,
  options: PlanOptions,
  calibration: Calibration | undefined,
  { linears, leftovers }: Products = findProducts(graph),
): BoundPlan {
  const wanted = int8Precision(options.target, options.activations);
  const kept = selectLinears(linears, options.keep);
  const entries = options.plan && resolvePlan(linears, options.plan);
  const knownModel = blockCount(linears) > 0;
  const statistics = new Map(calibration?.activations.map((activation) => [activation.value, activation]));
  const magnitudes = calibration ? largestMagnitudes(calibration) : new Map<string, number>();
  const overflow = new Map<string, Overflow>();
  const overflows = ({ role, activation, output }: Linear): boolean => {
    const beyond = [activation, output].filter((value) => exceedsFloat16(magnitudes.get(value) ?? 0));
    for (const value of beyond) overflow.set(value, { role, value, magnitude: magnitudes.get(value) as number });
    return beyond.length > 0;
  };
  const halves = computesFloat16(options.target, options.float);
  const scaleOf = (linear: Linear): ScaleType => {
    return scaleTypeOf(options.target, linear.computeType, halves && !overflows(linear));
  };
  const planned: PlannedLinear[] = [];
  const halved = new Set<string>();
  const computed: Linear[] = [];
  const keep = (linear: Linear, asked = options.float === 'fp16'): 'float16' | 'keep' => {
    if (!asked || !isHalvable(linear)) return 'keep';
    if (!halves) halved.add(linear.weight.name);
    else if (overflows(linear)) return 'keep';
    else computed.push(linear);
    return 'float16';
  };
  const bySchemeOf = (linear: Linear): { precision: Precision; reason: string } => {
    const { quantize, reason } = decide(options.scheme, linear, knownModel);
    if (!quantize) return { precision: 'float16', reason };
    return kept.has(linear) ? { precision: 'float16', reason: 'named by --keep' } : { precision: wanted, reason };
  };
  const keys = planKeys(linears);
  const rows = linears.map((linear, i): PlanRow => {
    const row = (decision: PlanRow['decision'], reason: string): PlanRow => ({
      key: keys[i] as string,
      node: linear.node.name,
      role: linear.role,
      kind: linear.kind,
      input: linear.activation,
      weightShape: [linear.inFeatures, linear.outFeatures],
      decision,
      reason,
      warnings: [],
      activation: null,
      smoothing: null,
      bytesBefore: linear.weight.byteLength,
      bytesAfter: isInt8(decision)
        ? int8Bytes(linear, formOf(options.target, decision, linear).form, scaleOf(linear))
        : bytesAfter(linear, decision),
    });
    const entry = entries?.get(linear);
    const { precision: asked, reason } = entries
      ? {
          precision: entry?.precision ?? ('keep' as const),
          reason: entry?.reason ?? (entry ? 'the plan' : 'not in the plan'),
        }
      : bySchemeOf(linear);
    if (!isInt8(asked)) return row(entries ? keep(linear, asked === 'float16') : keep(linear), reason);
    if (linear.computeType === undefined || !isQuantizableFloat(linear.computeType))
      return row(keep(linear), `${NOT_QUANTIZABLE} ${linear.computeType ?? 'an unknown type'}`);
    const { precision, form } = formOf(options.target, asked, linear);
    const seen = form !== 'weights' && calibration ? statisticsOf(linear, statistics) : undefined;
    if (seen && !seen.finite) return row(keep(linear), `${NOT_FINITE}: ${nonFiniteText(seen.nonFinite)}`);
    const made = row(precision, reason);
    planned.push({ linear, form, scaleType: scaleOf(linear), entry, row: made });
    return made;
  });
  if (!rows.some(({ decision }) => isInt8(decision))) {
    throw new WanqError(
      'MODEL_UNSUPPORTED',
      `${entries ? 'the plan' : `scheme ${options.scheme}`} quantizes none of the graph's ${rows.length} linears`,
      {
        hint: 'look at `wanq inspect` for the roles wanq found',
      },
    );
  }
  const bytesBefore = graph.weightBytes;
  const saved = rows.reduce((sum, row) => sum + row.bytesBefore - row.bytesAfter, 0);
  const { scheme, target, method, smooth = 'none', float = 'fp32' } = options;
  return {
    plan: {
      model: null,
      scheme: entries ? 'plan' : scheme,
      target,
      method,
      smooth,
      precision: wanted,
      float,
      rows,
      overflow: [...overflow.values()],
      leftovers,
      knownModel,
      bytesBefore,
      bytesAfter: bytesBefore - saved,
    },
    planned,
    halved,
    computed,
    magnitudes,
  };
}

/** Of everything that calibration looked at. */
function largestMagnitudes({ activations, outputs }: Calibration): Map<string, number> {
  const ranges = activations.map((activation): [string, number] => {
    const { min, max } = activation.total().range;
    return [activation.value, Math.max(Math.abs(min), Math.abs(max))];
  });
  return new Map([...outputs.map(({ value, magnitude }): [string, number] => [value, magnitude]), ...ranges]);
}

/** The timestep embedder modulates every activation, and takes 0.2 % of the 5B: diffusers keeps it in FP32 too. */
function isHalvable({ weight, role }: Linear): boolean {
  return weight.dtype === 'float32' && !role.startsWith('time_embedder');
}

function int8Bytes({ weight, outFeatures }: Linear, form: LinearForm, scaleType: ScaleType): number {
  // INT8 values, and for each output channel one scale; where a DequantizeLinear reads them, one zero point.
  const perChannel = form === 'qdq' || form === 'weights' ? (scaleType === 'float16' ? 3 : 5) : 4;
  return weight.elements + perChannel * outFeatures;
}

function bytesAfter({ weight }: Linear, decision: Exclude<Precision, Int8Precision>): number {
  return decision === 'float16' ? 2 * weight.elements : weight.byteLength;
}

/** How the reason begins where a linear computes in a type that has no scales. */
export const NOT_QUANTIZABLE = 'products are quantized that compute in FP32, FP16 or BF16, and it computes in';

/** How the reason begins where calibration saw values that have no scale. */
export const NOT_FINITE = 'NaN or infinity was seen in its input during calibration';

/**
 * What calibration saw of a linear's input.
 * @throws WanqError CALIBRATION_MISMATCH where the activation was never observed, or as another; PLAN_INVALID where that of its operator never is
 */
function statisticsOf(
  { activation, kind, role, inFeatures }: Linear,
  all: ReadonlyMap<string, Calibration['activations'][number]>,
): SliceStatistics {
  const statistics = all.get(activation);
  if (statistics && statistics.channels !== inFeatures) {
    throw new WanqError(
      'CALIBRATION_MISMATCH',
      `the calibration has ${statistics.channels} channels of ${printable(activation)}, and ${printable(role)} reads ${inFeatures}`,
      { hint: 'run `wanq calibrate` on this pipeline' },
    );
  }
  if (statistics) return statistics.total();
  if (kind === 'Conv') {
    throw new WanqError(
      'PLAN_INVALID',
      `${printable(role)} is a convolution, and calibration observes what matrix products read alone`,
      { hint: 'give it int8-weights or float16, or leave it out of the plan' },
    );
  }
  throw new WanqError('CALIBRATION_MISMATCH', `the calibration has no statistics of ${printable(activation)}`, {
    hint: 'run `wanq calibrate` on this pipeline',
  });
}
