import { z } from 'zod';
import { readJson } from '../util/json.js';

const rule = z.strictObject({
  /** Name in the results' `metrics`. */
  metric: z.string().min(1),
  operator: z.enum(['<', '<=', '>', '>=']),
  limit: z.number(),
  level: z.enum(['off', 'warn', 'error']).default('error'),
});

const rulesFile = z.strictObject({ rules: z.array(rule).min(1) });

/** What a metric must satisfy. `warn` is reported and does not fail the gate. */
export type Rule = z.output<typeof rule>;

/** The gate wanq stands for: PSNR drop at most 3 dB, FVD growth below 15 %. */
export const DEFAULT_RULES: readonly Rule[] = [
  { metric: 'psnr_drop', operator: '<=', limit: 3, level: 'error' },
  { metric: 'fvd_growth', operator: '<', limit: 15, level: 'error' },
];

/** @throws WanqError RULES_INVALID, NOT_FOUND */
export async function readRules(file: string): Promise<readonly Rule[]> {
  return (await readJson(file, rulesFile as z.ZodType<z.output<typeof rulesFile>>, 'RULES_INVALID')).rules;
}
