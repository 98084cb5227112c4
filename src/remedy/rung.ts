import type { SharedReference } from '../evaluate/shared-reference.js';
import type { Rule } from '../gate/rules.js';
import type { PlanEntry, PlanFile } from '../quantize/plan-file.js';
import type { Metric } from '../report/results.js';
import type { SensitivityBudget } from '../search/sensitivity.js';
import type { MeasuredAlike } from './evaluation.js';
import type { FailingModel } from './failing.js';

export const RUNG_NAMES = ['smooth', 'layers', 'weights', 'qat'] as const;

export type RungName = (typeof RUNG_NAMES)[number];

/** What the layers' rung and QAT need beside the model. */
export interface RungSettings {
  /** Share of the saved bytes that may be given back at most, in [0, 1]. */
  readonly giveBack: number;
  /** diffusers checkpoint of the reference, and the prompts it was calibrated on; QAT is not run without both. */
  readonly checkpoint?: string | undefined;
  readonly calibrationPrompts?: string | undefined;
}

/** What commands are made of: paths and options as the user gave them. */
export interface CommandContext extends RungSettings {
  readonly failing: FailingModel;
  readonly calibration: string;
  /** Folder of the plans of {@link Rung.plan}, each named after its rung. */
  readonly plans: string;
  /** A plan with ranges that later rungs go on from. */
  readonly base: string;
  readonly negativePrompt: string;
  /** What outputs begin with. */
  readonly stem: string;
  /** Options of `wanq search` that say what is evaluated and by which rules. */
  readonly searching: readonly string[];
  /** Options of `wanq quantize` that give the other components as the quantized pipeline has them. */
  readonly components: readonly string[];
}

/** What all attempts to mend a model have in common. */
export interface AttemptSettings extends RungSettings {
  /** Calibration file of the reference. */
  readonly calibration: string;
  readonly rules: readonly Rule[];
  /** How the failing pipeline was measured, and all attempts are. */
  readonly measured: MeasuredAlike;
  /** Of the layers' search. */
  readonly sensitivityBudget: SensitivityBudget;
  readonly evaluations: number;
  readonly budgetMs?: number | undefined;
  /** Keeps what the search measured, so that an interrupted run goes on. */
  readonly cache: string;
  /** Interpreter of the fine-tuning. */
  readonly python: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((stage: string, done?: number, total?: number) => void) | undefined;
}

/** One attempt to mend a model. */
export interface Attempt extends AttemptSettings {
  readonly failing: FailingModel;
  /** The plan with the least error so far of those in the failing plan's precisions, with ranges. */
  readonly base: string;
  /** What was measured of it on the weights of the reference; undefined where it was not. */
  readonly known: Readonly<Record<string, Metric>> | undefined;
  /** Folder for files that stay. */
  readonly work: string;
  /** Pipeline folder to write: the other components are linked from the quantized pipeline. */
  readonly pipeline: string;
  readonly shared: SharedReference;
}

/** What came of an attempt: a pipeline that is there, or why there is none. */
export type Outcome = { readonly made: true } | { readonly made: false; readonly why: string };

export const MADE: Outcome = { made: true };

/** One thing that may mend a model that failed the gate. */
export interface Rung {
  readonly name: RungName;
  applies(failing: FailingModel): boolean;
  /** What it does, and what that costs in bytes, speed and time; one line each. */
  does(settings: RungSettings): string;
  readonly costs: string;
  /** The plan that it carries out, where that follows of the failing one without measuring. */
  plan?(plan: PlanFile): PlanFile;
  /** Programs with their arguments. */
  commands(context: CommandContext): string[][];
  /** @throws WanqError of what it runs */
  run(attempt: Attempt): Promise<Outcome>;
}

/** `wanq quantize` of the reference, with the failing pipeline's other components. @param rung the output's name ends with it */
export function quantizeCommand(
  { failing, calibration, components, stem }: CommandContext,
  rung: RungName,
  plan: string,
  weights: readonly string[] = [],
): string[] {
  return [
    ...['wanq', 'quantize', failing.reference, '--plan', plan, ...weights],
    ...['--calibration', calibration, ...components, '-o', `${stem}-${rung}`],
  ];
}

/** A plan with each of its entries changed. */
export function withEntries(plan: PlanFile, change: (entry: PlanEntry) => PlanEntry): PlanFile {
  const linears = Object.entries(plan.linears).map(([key, entry]) => [key, change(entry)] as const);
  return { ...plan, linears: Object.fromEntries(linears) };
}

/** Whether activations are quantized for it. */
export function hasCodes({ precision }: PlanEntry): boolean {
  return precision === 'int8' || precision === 'int8-dynamic';
}

/** Whether a plan quantizes activations anywhere. */
export function quantizesActivations({ linears }: PlanFile): boolean {
  return Object.values(linears).some(hasCodes);
}
