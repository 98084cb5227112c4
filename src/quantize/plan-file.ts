import { distance } from 'fastest-levenshtein';
import { z } from 'zod';
import type { Linear } from '../analyze/linears.js';
import { printable, WanqError } from '../errors.js';
import { MAX_PLAN_BYTES } from '../limits.js';
import { readBounded, writeAtomic } from '../util/files.js';
import { parseJson } from '../util/json.js';
import { FLOAT_STORAGES, RANGE_METHODS } from './options.js';
import type { QuantPlan } from './plan.js';
import { isInt8, PRECISIONS } from './precision.js';
import { TARGETS } from './target.js';

/** Version of the file's layout. Another one is refused, never guessed at. */
export const PLAN_SCHEMA = 1;

/** Largest finite float32. */
const MAX_FLOAT32 = 3.4028234663852886e38;

const smoothing = z.union([z.literal('none'), z.literal('auto'), z.number().min(0).max(1)]);

/** One end of a range: a scale is a float32. */
const end = z
  .number()
  .refine((value) => Math.abs(value) <= MAX_FLOAT32, `is past the end of FP32, ${MAX_FLOAT32.toPrecision(3)}`);

const entry = z
  .strictObject({
    precision: z.enum(PRECISIONS),
    /** Value that it reads, for programs that go by a calibration; whether it is right is not looked at. */
    input: z.string().optional(),
    /** Strength of smoothing of its input. Linears that share an input share it where they say the same. */
    smooth: smoothing.optional(),
    /** Range of its input, after smoothing. */
    low: end.optional(),
    high: end.optional(),
    /** For people. */
    reason: z.string().optional(),
  })
  .refine(({ low, high }) => low === undefined || high === undefined || low <= high, 'low is above high')
  .refine(({ low, high }) => low !== 0 || high !== 0, 'low and high are both 0, which leaves no range');

const planFile = z.strictObject({
  schema: z.literal(PLAN_SCHEMA),
  /** Fingerprint of the transformer it is for; null: any in which all names are found. */
  model: z.string().nullable(),
  target: z.enum(TARGETS),
  method: z.enum(RANGE_METHODS),
  smooth: smoothing,
  float: z.enum(FLOAT_STORAGES),
  /** By {@link planKeys}. What is not named keeps its precision. */
  linears: z.record(z.string(), entry),
});

/** What one linear is to become. */
export type PlanEntry = z.infer<typeof entry>;

/** A plan that a person may edit. */
export type PlanFile = z.infer<typeof planFile>;

/** @throws WanqError PLAN_INVALID naming what is wrong and where; NOT_FOUND */
export async function readPlan(file: string): Promise<PlanFile> {
  const fail = (why: string): never => {
    throw new WanqError('PLAN_INVALID', `${printable(file)}: ${why}`, {
      hint: '`wanq quantize --dry-run --save-plan FILE` writes one to start from',
    });
  };
  let json: unknown;
  try {
    json = parseJson(new TextDecoder('utf-8', { fatal: true }).decode(await readBounded(file, MAX_PLAN_BYTES)));
  } catch (error) {
    if (error instanceof WanqError) throw error;
    const known = !(error instanceof SyntaxError || error instanceof TypeError);
    return fail(known ? (error as Error).message : 'it is not JSON');
  }
  const parsed = planFile.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return fail(`${printable(issue?.path.join('.') || 'the file')}: ${printable(issue?.message ?? 'is not a plan')}`);
}

export async function writePlan(file: string, plan: PlanFile): Promise<void> {
  await writeAtomic(file, [new TextEncoder().encode(`${JSON.stringify(plan, null, 2)}\n`)]);
}

/** The name each linear has in a plan file: its role, its node's name or its output's, the first of them that no other has. */
export function planKeys(linears: readonly Pick<Linear, 'role' | 'node' | 'output'>[]): string[] {
  const uses = (nameOf: (linear: Pick<Linear, 'role' | 'node' | 'output'>) => string): Map<string, number> => {
    const count = new Map<string, number>();
    for (const linear of linears) count.set(nameOf(linear), (count.get(nameOf(linear)) ?? 0) + 1);
    return count;
  };
  const [roles, names] = [uses(({ role }) => role), uses(({ node }) => node.name)];
  return linears.map(({ role, node, output }) => {
    if (roles.get(role) === 1) return role;
    return node.name !== '' && names.get(node.name) === 1 ? node.name : output;
  });
}

/**
 * The entries of a plan's linears.
 * @throws WanqError PLAN_INVALID for a name that is no linear's, with the nearest that are
 */
export function resolvePlan(linears: readonly Linear[], plan: PlanFile): Map<Linear, PlanEntry> {
  const keys = planKeys(linears);
  const known = new Map(keys.map((key, i) => [key, linears[i] as Linear]));
  return new Map(
    Object.entries(plan.linears).map(([key, of]) => {
      const linear = known.get(key);
      if (linear) return [linear, of];
      const nearest = keys.toSorted((a, b) => distance(a, key) - distance(b, key)).slice(0, 3);
      throw new WanqError('PLAN_INVALID', `the plan names "${printable(key)}", and no linear has that name`, {
        hint: `the nearest are ${nearest.map((name) => printable(name)).join(', ')}`,
      });
    }),
  );
}

/** What a plan decided, as a file: smoothing and ranges as they were chosen. */
export function planToFile({ model, rows, target, method, smooth, float }: QuantPlan): PlanFile {
  const linears = rows.flatMap(({ key, input, decision, reason, activation, smoothing: alpha }) => {
    if (decision === 'keep') return [];
    // Of what was always 0 there is no range to prescribe.
    const ranged = activation && (activation.low !== 0 || activation.high !== 0);
    const chosen = ranged ? { low: activation.low, high: activation.high } : {};
    // Without a calibration, neither range nor smoothing was chosen.
    const decided = activation !== null || decision === 'int8-dynamic';
    const smoothed = decided ? { smooth: alpha ?? ('none' as const) } : {};
    const read = isInt8(decision) ? { input } : {};
    return [[key, { precision: decision, ...read, ...smoothed, ...chosen, reason }] as const];
  });
  return { schema: PLAN_SCHEMA, model, target, method, smooth, float, linears: Object.fromEntries(linears) };
}
