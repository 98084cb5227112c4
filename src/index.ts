/** The library: what the `wanq` command calls, as functions over plain options. */
export {
  type CalibrateOptions,
  type CalibrationProgress,
  type CalibrationSummary,
  calibrate,
} from './calibrate/calibrate.js';
export { type Calibration, type CalibrationIdentity, readCalibration } from './calibrate/file.js';
export { type MergeSummary, mergeCalibrations } from './calibrate/merge.js';
export type { Shard } from './calibrate/shard.js';
export { type CheckedProduct, type CheckReport, checkTarget } from './check/check.js';
export { compare } from './compare/compare.js';
export { type Report, readReports } from './compare/reports.js';
export { type ErrorCode, ExitCode, WanqError } from './errors.js';
export { evaluate } from './evaluate/evaluate.js';
export { Journal } from './evaluate/journal.js';
export { type EvaluateOptions, type EvaluationProgress, NOISE_FLOORS, type NoiseFloor } from './evaluate/options.js';
export { SharedReference } from './evaluate/shared-reference.js';
export { type Check, judge, type Verdict } from './gate/judge.js';
export { DEFAULT_RULES, type Rule, readRules } from './gate/rules.js';
export { generate } from './generate/generate.js';
export type {
  GenerateOptions,
  GenerateProgress,
  GenerateSummary,
  PartCost,
  PreviewOptions,
} from './generate/options.js';
export { type ImportOptions, type ImportSummary, importCheckpoint } from './import/import.js';
export { THRESHOLD_METHODS, type ThresholdMethod } from './numerics/thresholds/index.js';
export { readPrompts } from './pipeline/prompts.js';
export type { ComponentPlan, ComponentSummary } from './quantize/components/component.js';
export { planComponents } from './quantize/components/index.js';
export {
  ACTIVATIONS,
  type Activations,
  FLOAT_STORAGES,
  type FloatStorage,
  TEXT_ENCODER_FORMS,
  type TextEncoderForm,
  VAE_FORMS,
  type VaeForm,
  VERIFICATIONS,
  type Verification,
} from './quantize/options.js';
export type { PlanRow, QuantPlan } from './quantize/plan.js';
export { PRECISIONS, type Precision } from './quantize/precision.js';
export { planPipeline, type QuantizeOptions, type QuantizeSummary, quantize } from './quantize/quantize.js';
export { SCHEMES, type Scheme } from './quantize/scheme.js';
export { TARGETS, type Target } from './quantize/target.js';
export type { Judged, MeasuredAlike } from './remedy/evaluation.js';
export type { FailingModel } from './remedy/failing.js';
export { assertRemediable, type RemedyOptions, type RemedySummary, remedy } from './remedy/ladder.js';
export type { ComparedFigure, ComparedModel, Comparison } from './report/comparison.js';
export type { Advice, AdvisedRung } from './report/ladder.js';
export { markdownReport } from './report/markdown.js';
export { type Metric, type Results, readResults, resultsToJson } from './report/results.js';
export { type SearchOptions, type SearchSummary, search } from './search/search.js';
export { measureSensitivity, type SensitivityBudget, type SensitivityOptions } from './search/sensitivity.js';
export type { Sensitivity, SensitivityEntry } from './search/sensitivity-file.js';
export type { Trial } from './search/trials.js';
