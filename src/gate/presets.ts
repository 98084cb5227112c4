import type { Rule } from './rules.js';

const PSNR_DROP: Rule = { metric: 'psnr_drop', operator: '<=', limit: 3, level: 'error' };
const FVD_GROWTH: Rule = { metric: 'fvd_growth', operator: '<', limit: 15, level: 'error' };
/** What rounding costs is foreseen within 2 dB; bench/damage.ts shows both sides of this limit. */
const LINEAR_EXCESS: Rule = { metric: 'linear_excess', operator: '<=', limit: 4, level: 'error' };
const SCALE_RATIO: Rule = { metric: 'scale_ratio_max', operator: '<=', limit: 1.05, level: 'error' };

const RECOMMENDED: readonly Rule[] = [PSNR_DROP, FVD_GROWTH, LINEAR_EXCESS, SCALE_RATIO];

/** Rules that stand for themselves, or that a rules file extends. docs/gate.md says what each is for. */
export const PRESETS: ReadonlyMap<string, readonly Rule[]> = new Map([
  ['wanq:recommended', RECOMMENDED],
  [
    'wanq:strict',
    [
      ...RECOMMENDED,
      { metric: 'psnr_drop', operator: '<=', limit: 1, level: 'error', aggregation: 'upper-bound' },
      { metric: 'sqnr', operator: '>=', limit: 30, level: 'error' },
      { metric: 'sqnr_min', operator: '>=', limit: 25, level: 'error' },
    ],
  ],
  ['wanq:no-features', RECOMMENDED.filter((rule) => rule !== FVD_GROWTH)],
]);

/** The gate wanq stands for: PSNR drop at most 3 dB, FVD growth below 15 %, no linear worse than INT8 has to be, every scale as planned. */
export const DEFAULT_RULES: readonly Rule[] = RECOMMENDED;
