import { appendFile } from 'node:fs/promises';
import path from 'node:path';
import { fromSystemError, printable, WanqError } from '../errors.js';
import type { Verdict } from '../gate/judge.js';
import { isRulesFile } from '../gate/rules.js';
import { annotations } from '../report/annotations.js';
import { jobSummary } from '../report/job-summary.js';
import { junitReport } from '../report/junit.js';
import type { Results } from '../report/results.js';
import { assertWritable, withOutput, writeAtomic } from '../util/files.js';
import type { Context, Io } from './context.js';

/** Options of `gateOutputOptions`, and what annotations point to. */
export interface GateOutputFlags {
  readonly markdown?: string | undefined;
  readonly junit?: string | undefined;
  /** Preset or file, as given. */
  readonly rules?: string | undefined;
  readonly baseline?: string | undefined;
}

/**
 * Finds out before any work whether the outputs can be written.
 * @param inputs files that no output may replace
 * @throws WanqError USAGE where an output would replace an input or another output; NOT_WRITABLE and others
 */
export async function assertGateOutputs(
  { markdown, junit, rules, baseline }: GateOutputFlags,
  inputs: readonly string[],
): Promise<void> {
  const ruled = rules !== undefined && isRulesFile(rules) ? [rules] : [];
  const used = new Set(
    [...inputs, ...ruled, ...(baseline === undefined ? [] : [baseline])].map((file) => path.resolve(file)),
  );
  for (const file of [markdown, junit]) {
    if (file === undefined) continue;
    if (file.trim() === '') throw new WanqError('USAGE', 'an output path is empty', { hint: 'name a file' });
    if (used.has(path.resolve(file))) {
      throw new WanqError('USAGE', `${printable(file)} is named twice`, { hint: 'name another output' });
    }
    used.add(path.resolve(file));
    await assertWritable(file);
  }
}

/**
 * Writes a verdict to everything that was asked for; on GitHub Actions to the job's summary and as annotations too. Files are replaced.
 * @throws WanqError NOT_WRITABLE, NO_SPACE, NOT_FOUND
 */
export async function writeGateOutputs(
  { io, say }: Context,
  verdict: Verdict,
  results: Results,
  { markdown, junit, rules, baseline }: GateOutputFlags,
): Promise<void> {
  const summary = io.env.GITHUB_STEP_SUMMARY;
  if (markdown !== undefined) await withOutput(markdown, () => writeAtomic(markdown, jobSummary(verdict, results)));
  if (junit !== undefined) await withOutput(junit, () => writeAtomic(junit, junitReport(verdict)));
  // The page of the run is a convenience: what decides is the exit code.
  if (summary) {
    await appendFile(summary, `${jobSummary(verdict, results)}\n`).catch((error) => {
      const why = fromSystemError(error, summary);
      say(`the job's summary was not written: ${printable(why instanceof Error ? why.message : String(why))}`);
    });
  }
  if (io.env.GITHUB_ACTIONS !== 'true') return;
  const files = {
    rules: rules !== undefined && isRulesFile(rules) ? inRepository(io, rules) : undefined,
    baseline: baseline === undefined ? undefined : inRepository(io, baseline),
  };
  // The runner reads both streams; stdout is for data.
  for (const line of annotations(verdict, files)) io.stderr.write(`${line}\n`);
}

/** A path as annotations take it; undefined outside the repository. */
function inRepository(io: Io, file: string): string | undefined {
  const relative = path.relative(io.env.GITHUB_WORKSPACE ?? io.cwd(), path.resolve(io.cwd(), file));
  return relative.startsWith('..') || path.isAbsolute(relative) ? undefined : relative.split(path.sep).join('/');
}
