import type { CalibrationIdentity } from '../calibrate/file.js';
import { WanqError } from '../errors.js';
import { type LoadedModel, loadModel } from '../onnx/load.js';
import type { SwitchedLinear } from '../passes/switch-linears.js';
import { PipelineFolder } from '../pipeline/layout.js';
import { needsCalibration, type PlanRow } from '../quantize/plan.js';
import { type PlanFile, planToFile } from '../quantize/plan-file.js';
import { isInt8 } from '../quantize/precision.js';
import { bindPlan, type PreparedPlan, type QuantizeOptions } from '../quantize/quantize.js';
import { sha256 } from '../util/hash.js';

/** Which pipeline, and how its linears would be quantized. */
export type SubjectOptions = Omit<
  QuantizeOptions,
  'output' | 'link' | 'verify' | 'onProgress' | 'signal' | 'textEncoder' | 'vae'
>;

/** A linear that a plan quantizes. */
export interface Candidate {
  /** Its name in a plan file. */
  readonly key: string;
  readonly role: string;
  /** Value that it reads. */
  readonly activation: string;
  /** Value that it makes. */
  readonly output: string;
  /** Bytes that are saved by quantizing it. */
  readonly bytesSaved: number;
  readonly switched: SwitchedLinear;
}

/** Candidates that are looked at together. */
export interface CandidateGroup {
  readonly name: string;
  /** Positions among the candidates, ascending; two at least. */
  readonly members: readonly number[];
}

/** A transformer, and all that a plan quantizes of it. */
export interface Subject {
  readonly folder: PipelineFolder;
  /** Its graph is normalized and not quantized. */
  readonly loaded: LoadedModel;
  readonly prepared: PreparedPlan;
  readonly candidates: readonly Candidate[];
  readonly groups: readonly CandidateGroup[];
  /** The whole plan, ranges and smoothing as they were chosen. */
  readonly plan: PlanFile;
  /** SHA-256 of the whole plan. */
  readonly planHash: string;
  readonly calibration: CalibrationIdentity | null;
}

/** @throws WanqError as `quantize` */
export async function openSubject(options: SubjectOptions): Promise<Subject> {
  const folder = await PipelineFolder.open(options.pipeline);
  const loaded = await loadModel(folder.modelPath('transformer'));
  try {
    const prepared = await bindPlan(loaded, options, true);
    if (prepared.identity === null && needsCalibration(prepared.options)) {
      throw new WanqError('USAGE', '--calibration is missing', { hint: 'run `wanq calibrate` on this pipeline' });
    }
    const plan = { ...planToFile(prepared.plan), model: prepared.source };
    const candidates = candidatesOf(prepared);
    return {
      folder,
      loaded,
      prepared,
      candidates,
      groups: groupsOf(candidates),
      plan,
      planHash: sha256(JSON.stringify(plan)),
      calibration: prepared.identity,
    };
  } catch (error) {
    await loaded.close();
    throw error;
  }
}

function candidatesOf({ plan, quantized, smoothed }: PreparedPlan): Candidate[] {
  const rows = plan.rows.filter(({ decision }) => isInt8(decision));
  const factors = new Map(
    smoothed.flatMap(({ linears, factors: of }) => linears.map((linear) => [linear, of] as const)),
  );
  return quantized.map((each, i): Candidate => {
    const row = rows[i] as PlanRow;
    const { linear } = each;
    return {
      key: row.key,
      role: row.role,
      activation: linear.activation,
      output: linear.output,
      bytesSaved: floatBytes(row, plan.float === 'fp16') - row.bytesAfter,
      switched: { quantized: each, factors: factors.get(linear) },
    };
  });
}

/** Bytes of the weight if it were given back. */
function floatBytes({ bytesBefore, weightShape: [rows, columns] }: PlanRow, halves: boolean): number {
  return halves ? Math.min(bytesBefore, 2 * rows * columns) : bytesBefore;
}

/** `blocks.N.attn1` of a role in a block. */
export function kindOf(role: string): string | undefined {
  return role.match(/^blocks\.\d+\.[^.]+/)?.[0];
}

/** Each kind of each block, each block, and all; of those with the same members the first. */
export function groupsOf(candidates: readonly Pick<Candidate, 'role'>[]): CandidateGroup[] {
  const members = new Map<string, number[]>();
  const add = (name: string | undefined, i: number): void => {
    if (name !== undefined) members.set(name, [...(members.get(name) ?? []), i]);
  };
  for (const [i, { role }] of candidates.entries()) add(kindOf(role), i);
  for (const [i, { role }] of candidates.entries()) add(kindOf(role)?.replace(/\.[^.]+$/, ''), i);
  for (const i of candidates.keys()) add('all', i);
  const seen = new Set<string>();
  return [...members].flatMap(([name, of]) => {
    const key = of.join();
    if (of.length < 2 || seen.has(key)) return [];
    seen.add(key);
    return [{ name, members: of }];
  });
}

/** Of what a measurement is, whatever it is made on. */
export function identityOf({ prepared, planHash, calibration }: Subject): {
  readonly model: string;
  readonly calibration: string | null;
  readonly plan: string;
} {
  return {
    model: prepared.source,
    calibration: calibration && sha256(JSON.stringify(calibration)),
    plan: planHash,
  };
}
