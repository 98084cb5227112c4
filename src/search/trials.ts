import { rm } from 'node:fs/promises';
import path from 'node:path';
import { forwardFlops } from '../analyze/flops.js';
import type { Linear } from '../analyze/linears.js';
import { printable, WanqError } from '../errors.js';
import { evaluate } from '../evaluate/evaluate.js';
import type { SharedReference } from '../evaluate/shared-reference.js';
import { LINEAR_METRICS } from '../evaluate/summary.js';
import { judge, type Verdict } from '../gate/judge.js';
import { tokensOf } from '../pipeline/geometry.js';
import type { PipelineShape } from '../pipeline/open.js';
import { writePlan } from '../quantize/plan-file.js';
import { quantize } from '../quantize/quantize.js';
import type { Metric } from '../report/results.js';
import type { Evaluations } from './evaluations.js';
import { planWithout } from './plan-of.js';
import { Prediction } from './predict.js';
import type { SearchOptions } from './search.js';
import type { Sensitivity } from './sensitivity-file.js';
import type { Subject } from './subject.js';

/** A plan that was evaluated. */
export interface Trial {
  /** Names of linears that keep their precision. */
  readonly givenBack: readonly string[];
  /** Of all weights. */
  readonly bytes: number;
  /** The most a forward can gain if INT8 products run twice as fast. */
  readonly speedBound: number;
  /** dB. */
  readonly predictedSqnr: number;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly verdict: Verdict;
  /** Whether its metrics were in the cache. */
  readonly cached: boolean;
}

export interface TrialContext {
  readonly shared: SharedReference;
  readonly shape: PipelineShape;
  readonly textTokens: number;
  readonly linears: readonly Linear[];
  readonly evaluations: Evaluations;
  readonly sensitivity: Sensitivity;
  /** When the search began, on the clock of `performance`. */
  readonly started: number;
}

/** Evaluates plans while the budget lasts. */
export class Trials {
  readonly #subject: Subject;
  readonly #options: SearchOptions;
  readonly #context: TrialContext;
  readonly #prediction: Prediction;
  readonly #trials = new Map<string, Trial>();
  /** Of the last evaluation, ms. */
  #lastMs = 0;
  #evaluated = 0;

  constructor(subject: Subject, options: SearchOptions, context: TrialContext) {
    this.#subject = subject;
    this.#options = options;
    this.#context = context;
    this.#prediction = new Prediction(
      context.sensitivity,
      subject.candidates.map(({ key }) => key),
    );
  }

  get made(): Trial[] {
    return [...this.#trials.values()];
  }

  of(givenBack: ReadonlySet<number>): Trial {
    return this.#trials.get(this.#keys(givenBack).join('\0')) as Trial;
  }

  /**
   * @returns whether the gate passes; undefined where the budget is used up
   * @throws WanqError USAGE where a rule cannot be judged, which no plan would change
   */
  async judge(givenBack: ReadonlySet<number>): Promise<boolean | undefined> {
    const { evaluations } = this.#context;
    const keys = this.#keys(givenBack);
    const known = this.#isEnough(evaluations.get(keys));
    if (!known && !this.#mayEvaluate()) return undefined;
    const metrics = known ?? (await this.#evaluate(givenBack));
    if (!known) await evaluations.set(keys, metrics);
    const trial = this.#trial(givenBack, metrics, known !== undefined);
    this.#trials.set(keys.join('\0'), trial);
    this.#options.onTrial?.(trial);
    const missing = trial.verdict.checks.find(({ rule, value }) => rule.level === 'error' && value === null);
    if (missing) throw unjudged(missing.rule.metric, metrics[missing.rule.metric]?.note ?? 'it was not measured');
    return trial.verdict.passed;
  }

  get #asksForLinears(): boolean {
    return this.#options.rules.some(({ metric }) => LINEAR_METRICS.includes(metric));
  }

  /** What was evaluated for other rules may lack what these ask for. */
  #isEnough(metrics: Readonly<Record<string, Metric>> | undefined): typeof metrics {
    return metrics && this.#asksForLinears && !LINEAR_METRICS.every((name) => name in metrics) ? undefined : metrics;
  }

  #mayEvaluate(): boolean {
    const { evaluations, budgetMs = Number.POSITIVE_INFINITY } = this.#options;
    const elapsed = performance.now() - this.#context.started;
    return this.#evaluated < evaluations && elapsed + this.#lastMs <= budgetMs;
  }

  #keys(givenBack: ReadonlySet<number>): string[] {
    return this.#subject.candidates.flatMap(({ key }, i) => (givenBack.has(i) ? [key] : []));
  }

  async #evaluate(givenBack: ReadonlySet<number>): Promise<Readonly<Record<string, Metric>>> {
    const { pipeline, cache, onProgress } = this.#options;
    const start = performance.now();
    const number = ++this.#evaluated;
    const whole = givenBack.size === this.#subject.candidates.length;
    // In the cache, so that a search that was killed leaves nothing that the next one does not remove.
    const work = path.join(cache, '.plan.tmp');
    try {
      const { metrics } = await evaluate({
        ...this.#options,
        reference: pipeline,
        // With everything given back, nothing is left to quantize.
        quantized: whole ? pipeline : await this.#quantize(givenBack, work),
        noiseFloor: 'none',
        linears: this.#asksForLinears,
        shared: this.#context.shared,
        onProgress: ({ stage, done, total }) => onProgress?.(`plan ${number}: ${stage}`, done, total),
        onVideo: undefined,
      });
      return metrics;
    } finally {
      await rm(work, { recursive: true, force: true });
      this.#lastMs = performance.now() - start;
    }
  }

  /** @returns the pipeline folder that was written */
  async #quantize(givenBack: ReadonlySet<number>, work: string): Promise<string> {
    const { pipeline, components, calibration, percentile, scheme, signal } = this.#options;
    const { target, method } = this.#subject.prepared.options;
    const [plan, output] = [path.join(work, 'plan.json'), path.join(work, 'pipeline')];
    await rm(work, { recursive: true, force: true });
    await writePlan(plan, planWithout(this.#subject, givenBack));
    await quantize({
      ...{ pipeline, components, calibration, plan, scheme, target, method, percentile, keep: [], signal },
      ...{ output, link: true, verify: 'load' },
    });
    return output;
  }

  #trial(givenBack: ReadonlySet<number>, metrics: Readonly<Record<string, Metric>>, cached: boolean): Trial {
    const { candidates, prepared } = this.#subject;
    const { shape, textTokens, linears } = this.#context;
    const left = [...candidates.keys()].filter((i) => !givenBack.has(i));
    const given = [...givenBack].reduce((sum, i) => sum + (candidates[i]?.bytesSaved as number), 0);
    const tokens = tokensOf(shape.latents, shape.patch);
    const int8 = new Set(
      left
        .filter((i) => candidates[i]?.switched.quantized.form !== 'weights')
        .map((i) => candidates[i]?.output as string),
    );
    return {
      givenBack: this.#keys(givenBack),
      bytes: prepared.plan.bytesAfter + given,
      speedBound: forwardFlops(linears, tokens, textTokens, int8).bound,
      predictedSqnr: this.#prediction.sqnr(left),
      metrics,
      verdict: judge(metrics, this.#options.rules),
      cached,
    };
  }
}

export function unjudged(metric: string, why: string): WanqError {
  return new WanqError('USAGE', `no plan can pass the rule on ${printable(metric)}: ${why}`, {
    hint: 'give what it needs (--features for FVD), or --rules without it',
  });
}
