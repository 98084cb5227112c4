import { findLinears, type Linear } from '../analyze/linears.js';
import { blockCount, selectLinears } from '../analyze/select.js';
import type { Calibration } from '../calibrate/file.js';
import type { ActivationStatistics } from '../calibrate/statistics.js';
import { printable, WanqError } from '../errors.js';
import type { Graph } from '../ir/graph.js';
import { type ActivationScale, activationScale } from '../numerics/int8.js';
import { chooseRange, type ThresholdMethod } from '../numerics/thresholds/index.js';
import type { FloatStorage } from './options.js';
import { decide, type Scheme } from './scheme.js';
import { TARGET_TRAITS, type Target } from './target.js';

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
  /** `float16`: stored so, computed with as before. */
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
  /** Bytes of all initializers of the graph, before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
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
  readonly quantized: readonly { readonly linear: Linear; readonly activation: PlannedActivation }[];
  /** Initializers to store as float16. */
  readonly halved: ReadonlySet<string>;
}

/**
 * Decides for every linear whether and how it is quantized. Reads no weights.
 *
 * @param calibration absent for a dry run without scales
 * @throws WanqError PATTERN_UNMATCHED; CALIBRATION_MISMATCH where an activation was never observed; MODEL_UNSUPPORTED where nothing can be
 * quantized
 */
export function makePlan(graph: Graph, options: PlanOptions, calibration: Calibration | undefined): BoundPlan {
  const linears = findLinears(graph);
  const kept = selectLinears(linears, options.keep);
  const knownModel = blockCount(linears) > 0;
  const statistics = new Map(calibration?.activations.map((activation) => [activation.value, activation]));
  const activations = new Map<string, PlannedActivation | string>();
  const plannedActivation = (linear: Linear): PlannedActivation | string => {
    const { activation: value } = linear;
    const known = activations.get(value);
    if (known !== undefined) return known;
    const planned = planActivation(value, statistics.get(value), options);
    activations.set(value, planned);
    return planned;
  };

  const quantized: { linear: Linear; activation: PlannedActivation }[] = [];
  const halved = new Set<string>();
  const keep = (linear: Linear): 'float16' | 'keep' => {
    if (options.float !== 'fp16' || !isHalvable(linear)) return 'keep';
    halved.add(linear.weight.name);
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
      bytesAfter: bytesAfter(linear, decision),
    });
    const { quantize, reason } = decide(options.scheme, linear, knownModel);
    if (!quantize) return row(keep(linear), reason, null);
    if (kept.has(linear)) return row(keep(linear), 'named by --keep', null);
    if (linear.computeType !== 'float32')
      return row(keep(linear), `${NOT_QUANTIZABLE} ${linear.computeType ?? 'an unknown type'}`, null);
    if (!calibration) return row('int8', reason, null);
    const activation = plannedActivation(linear);
    if (typeof activation === 'string') return row(keep(linear), activation, null);
    quantized.push({ linear, activation });
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
    plan: { scheme, target, method, float, rows, bytesBefore, bytesAfter: bytesBefore - saved },
    quantized,
    halved,
  };
}

/** The timestep embedder modulates every activation, and takes 0.2 % of the 5B: diffusers keeps it in FP32 too. */
function isHalvable({ weight, role }: Linear): boolean {
  return weight.dtype === 'float32' && !role.startsWith('time_embedder');
}

function bytesAfter({ weight, outFeatures }: Linear, decision: PlanRow['decision']): number {
  // INT8 values, one float32 scale and one zero point for each output channel.
  if (decision === 'int8') return weight.elements + 5 * outFeatures;
  return decision === 'float16' ? 2 * weight.elements : weight.byteLength;
}

/** How the reason begins where a linear is not FP32. */
export const NOT_QUANTIZABLE = 'this version quantizes FP32 products, and it computes in';

/** How the reason begins where calibration saw values that have no scale. */
export const NOT_FINITE = 'NaN or infinity was seen in its input during calibration';

/** @returns the reason as text where the activation cannot be quantized */
function planActivation(
  value: string,
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
  return { ...activationScale(dtype, chosen.low, chosen.high), value, method, ...range, ...chosen };
}
