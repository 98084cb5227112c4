import { findProducts, type LeftoverCount, type Products } from '../analyze/leftovers.js';
import type { Linear } from '../analyze/linears.js';
import { blockCount, selectLinears } from '../analyze/select.js';
import type { Calibration } from '../calibrate/file.js';
import type { ActivationStatistics } from '../calibrate/statistics.js';
import { printable, WanqError } from '../errors.js';
import { isQuantizableFloat } from '../ir/dtype.js';
import type { Graph } from '../ir/graph.js';
import { type ActivationScale, activationScale } from '../numerics/int8.js';
import { chooseRange, type ThresholdMethod } from '../numerics/thresholds/index.js';
import { exceedsFloat16 } from '../passes/float16-region.js';
import type { QuantizedLinear, ScaleType } from '../passes/quantize-linears.js';
import type { FloatStorage } from './options.js';
import { decide, type Scheme } from './scheme.js';
import { computesFloat16, scaleTypeOf, TARGET_TRAITS, type Target } from './target.js';

/** How the input of a quantized linear is quantized, and what was measured of it. */
export interface PlannedActivation extends ActivationScale {
  readonly value: string;
  readonly method: ThresholdMethod;
  /** Range that is quantized. */
  readonly low: number;
  readonly high: number;
  /** Range that was seen. */
  readonly min: number;
  readonly max: number;
  /** Share of sampled values outside [low, high]. */
  readonly clippedShare: number;
  /** Thresholds compared. */
  readonly candidates: number;
}

/** One row for every linear of the graph. */
export interface PlanRow {
  readonly node: string;
  readonly role: string;
  readonly kind: Linear['kind'];
  /** [in, out] features. */
  readonly weightShape: readonly [number, number];
  /** `float16`: stored so; computed in it where the target has kernels for it, else cast back where it is read. */
  readonly decision: 'int8' | 'float16' | 'keep';
  readonly reason: string;
  readonly activation: PlannedActivation | null;
  /** Bytes of the weight (and its scales) as it is, and as planned. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

export interface QuantPlan {
  readonly scheme: Scheme;
  readonly target: Target;
  readonly method: ThresholdMethod;
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
  readonly method: ThresholdMethod;
  readonly percentile: number;
  /** Globs over roles and node names that keep their precision. */
  readonly keep: readonly string[];
}

/** A plan with the graph objects its rows speak of, for the rewrite. */
export interface BoundPlan {
  readonly plan: QuantPlan;
  readonly quantized: readonly (QuantizedLinear & { readonly activation: PlannedActivation })[];
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
 * @param calibration absent for a dry run without scales
 * @throws WanqError PATTERN_UNMATCHED; CALIBRATION_MISMATCH where an activation was never observed; MODEL_UNSUPPORTED where nothing can be
 * quantized
 */
export function makePlan(
  graph: Graph,
  options: PlanOptions,
  calibration: Calibration | undefined,
  { linears, leftovers }: Products = findProducts(graph),
): BoundPlan {
  const kept = selectLinears(linears, options.keep);
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
  const activations = new Map<string, PlannedActivation | string>();
  const plannedActivation = (linear: Linear): PlannedActivation | string => {
    const { activation: value } = linear;
    const scaleType = scaleOf(linear);
    const key = `${value}\0${scaleType}`;
    const known = activations.get(key);
    if (known !== undefined) return known;
    const planned = planActivation(value, scaleType, statistics.get(value), options);
    activations.set(key, planned);
    return planned;
  };

  const quantized: BoundPlan['quantized'][number][] = [];
  const halved = new Set<string>();
  const computed: Linear[] = [];
  const keep = (linear: Linear): 'float16' | 'keep' => {
    if (options.float !== 'fp16' || !isHalvable(linear)) return 'keep';
    if (!halves) halved.add(linear.weight.name);
    else if (overflows(linear)) return 'keep';
    else computed.push(linear);
    return 'float16';
  };
  const rows = linears.map((linear): PlanRow => {
    const row = (decision: PlanRow['decision'], reason: string, activation: PlannedActivation | null): PlanRow => ({
      node: linear.node.name,
      role: linear.role,
      kind: linear.kind,
      weightShape: [linear.inFeatures, linear.outFeatures],
      decision,
      reason,
      activation,
      bytesBefore: linear.weight.byteLength,
      bytesAfter: bytesAfter(linear, decision, scaleOf(linear)),
    });
    const { quantize, reason } = decide(options.scheme, linear, knownModel);
    if (!quantize) return row(keep(linear), reason, null);
    if (kept.has(linear)) return row(keep(linear), 'named by --keep', null);
    if (linear.computeType === undefined || !isQuantizableFloat(linear.computeType))
      return row(keep(linear), `${NOT_QUANTIZABLE} ${linear.computeType ?? 'an unknown type'}`, null);
    if (!calibration) return row('int8', reason, null);
    const activation = plannedActivation(linear);
    if (typeof activation === 'string') return row(keep(linear), activation, null);
    quantized.push({ linear, activation, scaleType: scaleOf(linear) });
    return row('int8', reason, activation);
  });
  if (!rows.some(({ decision }) => decision === 'int8')) {
    throw new WanqError(
      'MODEL_UNSUPPORTED',
      `scheme ${options.scheme} quantizes none of the graph's ${rows.length} linears`,
      {
        hint: 'look at `wanq inspect` for the roles wanq found',
      },
    );
  }
  const bytesBefore = graph.weightBytes;
  const saved = rows.reduce((sum, row) => sum + row.bytesBefore - row.bytesAfter, 0);
  const { scheme, target, method, float = 'fp32' } = options;
  return {
    plan: {
      scheme,
      target,
      method,
      float,
      rows,
      overflow: [...overflow.values()],
      leftovers,
      knownModel,
      bytesBefore,
      bytesAfter: bytesBefore - saved,
    },
    quantized,
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

function bytesAfter({ weight, outFeatures }: Linear, decision: PlanRow['decision'], scaleType: ScaleType): number {
  // INT8 values, one scale and one zero point for each output channel.
  if (decision === 'int8') return weight.elements + (scaleType === 'float16' ? 3 : 5) * outFeatures;
  return decision === 'float16' ? 2 * weight.elements : weight.byteLength;
}

/** How the reason begins where a linear computes in a type that has no scales. */
export const NOT_QUANTIZABLE = 'products are quantized that compute in FP32, FP16 or BF16, and it computes in';

/** How the reason begins where calibration saw values that have no scale. */
export const NOT_FINITE = 'NaN or infinity was seen in its input during calibration';

/** @returns the reason as text where the activation cannot be quantized */
function planActivation(
  value: string,
  scaleType: ScaleType,
  statistics: ActivationStatistics | undefined,
  { target, method, percentile }: PlanOptions,
): PlannedActivation | string {
  if (!statistics) {
    throw new WanqError('CALIBRATION_MISMATCH', `the calibration has no statistics of ${printable(value)}`, {
      hint: 'run `wanq calibrate` on this pipeline',
    });
  }
  const total = statistics.total();
  if (!total.finite) return NOT_FINITE;
  const { range, histogram } = total;
  const dtype = TARGET_TRAITS[target].activation;
  const chosen = chooseRange(histogram.toJSON(), range, dtype, { method, percentile });
  return { ...activationScale(dtype, chosen.low, chosen.high, scaleType), value, method, ...range, ...chosen };
}
