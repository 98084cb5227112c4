import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { compare } from '../../compare/compare.js';
import { COMPARISON_FILES } from '../../compare/names.js';
import { readReports } from '../../compare/reports.js';
import { WanqError } from '../../errors.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { comparisonMarkdown } from '../../report/compare-markdown.js';
import { type Comparison, comparisonToJson } from '../../report/comparison.js';
import { refuseExisting, writeAtomic, writeFolderAtomic } from '../../util/files.js';
import type { Action, Invocation } from '../command.js';
import { comparedOptions } from '../comparing-options.js';
import { comparisonText } from '../ui/comparison.js';
import { type EvaluatingFlags, evaluateAll } from './compare-evaluate.js';

export const run: Action = async (context, invocation) => {
  const { positional, flags } = invocation;
  const { reference, output, rules: source } = flags as Partial<EvaluatingFlags>;
  if (positional.length < 2) {
    throw new WanqError('USAGE', 'a comparison needs two models or more', { hint: 'name another one' });
  }
  if (reference === undefined) {
    refuseMeasuring(invocation);
    if (output !== undefined) await refuseExisting(output);
  }
  const rules = source === undefined ? DEFAULT_RULES : await readRules(source);
  const paths =
    reference === undefined ? positional : await evaluateAll(context, positional, flags as EvaluatingFlags, rules);
  const comparison = placed(compare(await readReports(paths), rules), output);
  if (output !== undefined) await write(comparison, output, reference !== undefined);
  if (context.json) context.print(comparisonToJson(comparison).trimEnd());
  else {
    context.print(comparisonText(comparison));
    if (output !== undefined) context.print(`page: ${path.join(output, COMPARISON_FILES.html)}`);
  }
  return undefined;
};

/** Options that say what is measured are none of reports, which hold it. The device may be of the environment. */
function refuseMeasuring({ given }: Invocation): void {
  const vain = comparedOptions().find(
    (option) => option.attributeName() !== 'device' && given.has(option.attributeName()),
  );
  if (!vain) return;
  throw new WanqError('USAGE', `${vain.long} is for --reference: reports hold what was measured`, {
    hint: 'name the reference pipeline with --reference, or leave it out',
  });
}

/** With paths of reports as the folder that they are told from has them. */
function placed(comparison: Comparison, output: string | undefined): Comparison {
  if (output === undefined) return comparison;
  const from = (file: string): string => path.relative(path.resolve(output), path.resolve(file));
  return { ...comparison, models: comparison.models.map((model) => ({ ...model, report: from(model.report) })) };
}

/** @param shared whether the folder is there, with reports in it */
async function write(comparison: Comparison, output: string, shared: boolean): Promise<void> {
  // Charts take longer to load than all else here, and errors need none.
  const { comparisonHtml } = await import('../../report/compare-html.js');
  // Whoever sees the last one sees all.
  const files = [
    [COMPARISON_FILES.html, comparisonHtml(comparison)],
    [COMPARISON_FILES.markdown, comparisonMarkdown(comparison)],
    [COMPARISON_FILES.json, comparisonToJson(comparison)],
  ] as const;
  if (shared) {
    for (const [name, text] of files) await writeAtomic(path.join(output, name), text);
    return;
  }
  await writeFolderAtomic(output, async (folder) => {
    for (const [name, text] of files) await writeFile(path.join(folder, name), text);
  });
}
