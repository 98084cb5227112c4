import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { MAX_JSON_BYTES } from '../limits.js';
import { readText } from '../util/files.js';
import { readJson } from '../util/json.js';
import { PRESETS } from './presets.js';
import { ruleLines } from './rule-lines.js';

export { DEFAULT_RULES } from './presets.js';

/** Which figure of a metric a rule holds: its value, the median or the worst of its samples, or an end of its interval. */
export const AGGREGATIONS = ['mean', 'median', 'worst', 'lower-bound', 'upper-bound'] as const;

export type Aggregation = (typeof AGGREGATIONS)[number];

const rule = z.strictObject({
  /** Name in the results' `metrics`. */
  metric: z.string().min(1),
  operator: z.enum(['<', '<=', '>', '>=']),
  limit: z.number(),
  level: z.enum(['off', 'warn', 'error']).default('error'),
  /** Absent: `mean`. */
  aggregation: z.enum(AGGREGATIONS).optional(),
  /** Samples that the metric must have been taken over at least. */
  minSamples: z.int().positive().optional(),
});

const rulesFile = z.strictObject({ extends: z.string().optional(), rules: z.array(rule).default([]) });

/** What a metric must satisfy. `warn` is reported and does not fail the gate. */
export type Rule = Readonly<z.output<typeof rule>> & {
  /** Of the rules file; absent where the rule is of a preset. */
  readonly line?: number;
};

const PRESET_PREFIX = 'wanq:';

/**
 * Rules of a preset or a file. Rules of a file stand in for those of the preset that it extends on the same metric and aggregation.
 *
 * @param source name of a preset, or path of a file
 * @throws WanqError RULES_INVALID, NOT_FOUND
 */
export async function readRules(source: string): Promise<readonly Rule[]> {
  if (source.startsWith(PRESET_PREFIX)) return presetOf(source, '--rules');
  const file = await readJson(source, rulesFile as z.ZodType<z.output<typeof rulesFile>>, 'RULES_INVALID');
  refuseDuplicates(file.rules, source);
  if (file.extends === undefined && file.rules.length === 0) {
    throw new WanqError('RULES_INVALID', `${printable(source)}: rules: there is no rule`, {
      hint: 'give one, or extend a preset: a gate that checks nothing does not pass',
    });
  }
  const base = file.extends === undefined ? [] : presetOf(file.extends, `${printable(source)}: extends`);
  const own = new Set(file.rules.map(subjectOf));
  const lines = ruleLines(await readText(source, MAX_JSON_BYTES));
  return [
    ...base.filter((of) => !own.has(subjectOf(of))),
    ...file.rules.map((of, i): Rule => ({ ...of, ...(lines[i] === undefined ? {} : { line: lines[i] }) })),
  ];
}

/** Whether `--rules` or `--gate` names a file, and not a preset. */
export function isRulesFile(source: string): boolean {
  return !source.startsWith(PRESET_PREFIX);
}

export function aggregationOf({ aggregation = 'mean' }: Pick<Rule, 'aggregation'>): Aggregation {
  return aggregation;
}

function presetOf(name: string, where: string): readonly Rule[] {
  const preset = PRESETS.get(name);
  if (preset) return preset;
  throw new WanqError('RULES_INVALID', `${where}: there is no preset ${printable(name, 60)}`, {
    hint: `take one of ${[...PRESETS.keys()].join(', ')}`,
  });
}

function subjectOf(of: Rule): string {
  return `${of.metric} (${aggregationOf(of)})`;
}

/** Two limits on one figure are a range, or a warning before an error; two of one side and level say different things. */
function refuseDuplicates(rules: readonly Rule[], file: string): void {
  for (const [i, of] of rules.entries()) {
    const twin = rules.slice(0, i).findIndex((other) => subjectOf(other) === subjectOf(of) && overlaps(other, of));
    if (twin === -1) continue;
    const message = `${printable(file)}: rules.${i}: ${printable(subjectOf(of), 100)} has a rule already: rules.${twin}`;
    throw new WanqError('RULES_INVALID', message, { hint: 'leave one of them' });
  }
}

function overlaps(a: Rule, b: Rule): boolean {
  return a.level === 'off' || b.level === 'off' || (a.level === b.level && a.operator[0] === b.operator[0]);
}
