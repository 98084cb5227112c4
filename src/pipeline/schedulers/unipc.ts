import { linspace, type Scheduler, shiftSigma } from './scheduler.js';

export interface UniPCOptions {
  readonly steps: number;
  readonly flowShift: number;
  readonly trainTimesteps: number;
  /** 1 or 2 are what diffusers serves Wan with; 3 works too. */
  readonly order: number;
  readonly solver: 'bh1' | 'bh2';
  readonly lowerOrderFinal: boolean;
  /** Steps whose result is not corrected. */
  readonly disableCorrector: readonly number[];
  readonly finalSigma: 'zero' | 'sigma_min';
}

/**
 * UniPC multistep predictor-corrector (Zhao et al. 2023, arXiv 2302.04867, algorithm of `UniPCMultistepScheduler` in diffusers with
 * use_flow_sigmas, predict_x0 and flow_prediction). Coefficients in double precision, latents in float32.
 */
export class UniPCScheduler implements Scheduler {
  readonly name = 'UniPCMultistepScheduler';
  readonly timesteps: readonly number[];
  readonly sigmas: readonly number[];
  readonly #options: UniPCOptions;
  #index = 0;
  /** x0 predictions at earlier steps, newest last. */
  #history: { x0: Float32Array; lambda: number }[] = [];
  #previous: { sample: Float32Array; order: number } | undefined;

  constructor(options: UniPCOptions) {
    this.#options = options;
    const { steps, flowShift, trainTimesteps, finalSigma } = options;
    const sigmas = linspace(1, 1 / trainTimesteps, steps + 1)
      .slice(0, -1)
      .map((sigma) => shiftSigma(sigma, flowShift));
    // log(1 - sigma) is taken of the first one.
    if (Math.abs((sigmas[0] as number) - 1) < 1e-6) sigmas[0] = (sigmas[0] as number) - 1e-6;
    this.timesteps = sigmas.map((sigma) => this.timestepOf(sigma));
    this.sigmas = [...sigmas, finalSigma === 'zero' ? 0 : (sigmas.at(-1) as number)].map(Math.fround);
  }

  timestepOf(sigma: number): number {
    return Math.trunc(sigma * this.#options.trainTimesteps);
  }

  step(velocity: Float32Array, noisy: Float32Array): Float32Array {
    const { order, lowerOrderFinal, disableCorrector } = this.#options;
    const i = this.#index;
    const sigma = this.sigmas[i] as number;
    const x0 = velocity.map((v, k) => (noisy[k] as number) - sigma * v);
    const corrects = i > 0 && !disableCorrector.includes(i - 1) && this.#previous !== undefined;
    const sample = corrects ? this.#correct(x0) : noisy;

    this.#history = [...this.#history, { x0, lambda: lambdaOf(sigma) }].slice(-order);
    const wanted = lowerOrderFinal ? Math.min(order, this.timesteps.length - i) : order;
    const current = Math.min(wanted, this.#history.length);
    this.#previous = { sample, order: current };
    this.#index++;
    return this.#update(sample, i, i + 1, current, undefined);
  }

  /** UniC: redoes the last update with the prediction made at its result. */
  #correct(x0: Float32Array): Float32Array {
    const { sample, order } = this.#previous as { sample: Float32Array; order: number };
    return this.#update(sample, this.#index - 1, this.#index, order, x0);
  }

  /**
   * x(to) from x(from). Without `ahead` this is UniP; with the prediction at `to` it is UniC.
   * Formula (3.8) and (3.9) of the paper in x0 form.
   */
  #update(
    sample: Float32Array,
    from: number,
    to: number,
    order: number,
    ahead: Float32Array | undefined,
  ): Float32Array {
    const sigmaFrom = this.sigmas[from] as number;
    const sigmaTo = this.sigmas[to] as number;
    const alphaTo = 1 - sigmaTo;
    const lambdaFrom = lambdaOf(sigmaFrom);
    const h = lambdaOf(sigmaTo) - lambdaFrom;
    const phi1 = Math.expm1(-h);
    const b = this.#options.solver === 'bh1' ? -h : phi1;

    const newest = this.#history.at(-1) as { x0: Float32Array };
    const older = this.#history.slice(-order, -1).reverse();
    const ratios = older.map(({ lambda }) => (lambda - lambdaFrom) / h);
    const weights = coefficients([...ratios, 1], -h, b, ahead !== undefined);

    const result = new Float32Array(sample.length);
    const m0 = newest.x0;
    const keep = sigmaTo / sigmaFrom;
    for (let k = 0; k < result.length; k++) {
      const base = m0[k] as number;
      let residual = 0;
      for (let j = 0; j < older.length; j++) {
        const difference = ((older[j] as { x0: Float32Array }).x0[k] as number) - base;
        residual += ((weights[j] as number) * difference) / (ratios[j] as number);
      }
      if (ahead) residual += (weights.at(-1) as number) * ((ahead[k] as number) - base);
      // At sigma 0 h is infinite, and so is b of bh1; there the order is 1 and nothing is left to weigh.
      const correction = weights.length > 0 ? alphaTo * b * residual : 0;
      result[k] = keep * (sample[k] as number) - alphaTo * phi1 * base - correction;
    }
    return result;
  }
}

/** Half the log signal-to-noise ratio; infinite at sigma 0. */
function lambdaOf(sigma: number): number {
  return Math.log(1 - sigma) - Math.log(sigma);
}

/**
 * Weights of the differences. The predictor leaves the last ratio (the point ahead) out; diffusers fixes the lowest orders to 1/2.
 */
function coefficients(ratios: readonly number[], hh: number, b: number, corrector: boolean): number[] {
  const order = ratios.length;
  if (!corrector && order === 1) return [];
  if ((corrector && order === 1) || (!corrector && order === 2)) return [0.5];
  const rows: number[][] = [];
  const right: number[] = [];
  let phi = Math.expm1(hh) / hh - 1;
  let factorial = 1;
  for (let i = 1; i <= order; i++) {
    rows.push(ratios.map((ratio) => ratio ** (i - 1)));
    right.push((phi * factorial) / b);
    factorial *= i + 1;
    phi = phi / hh - 1 / factorial;
  }
  return corrector
    ? solve(rows, right)
    : solve(
        rows.slice(0, -1).map((row) => row.slice(0, -1)),
        right.slice(0, -1),
      );
}

/** Gaussian elimination with pivoting; at most 3 x 3 here. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i] as number]);
  const n = rows.length;
  for (let column = 0; column < n; column++) {
    const at = (row: number): number => Math.abs((rows[row] as number[])[column] as number);
    let pivot = column;
    for (let row = column + 1; row < n; row++) if (at(row) > at(pivot)) pivot = row;
    [rows[column], rows[pivot]] = [rows[pivot] as number[], rows[column] as number[]];
    const top = rows[column] as number[];
    for (let row = 0; row < n; row++) {
      if (row === column) continue;
      const current = rows[row] as number[];
      const factor = (current[column] as number) / (top[column] as number);
      for (let k = column; k <= n; k++) current[k] = (current[k] as number) - factor * (top[k] as number);
    }
  }
  return rows.map((row, i) => (row[n] as number) / (row[i] as number));
}
