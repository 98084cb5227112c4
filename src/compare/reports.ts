import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { fromSystemError, printable, WanqError } from '../errors.js';
import { type Results, readResults } from '../report/results.js';
import { exists } from '../util/files.js';

/** Results of an evaluation, and where they came from. */
export interface Report {
  /** As it was given: a folder of `wanq eval`, or its results.json. */
  readonly path: string;
  /** What people read there: report.html, report.md or results.json. */
  readonly page: string;
  readonly results: Results;
}

const PAGES = ['report.html', 'report.md'] as const;

/**
 * Reads the reports of evaluations.
 * @param paths folders of `wanq eval`, or results.json of such
 * @throws WanqError USAGE where one comes twice; RESULTS_INVALID, NOT_FOUND, NOT_READABLE
 */
export async function readReports(paths: readonly string[]): Promise<Report[]> {
  const files = new Map<string, string>();
  const reports: Report[] = [];
  for (const given of paths) {
    const file = await resultsFile(given);
    const real = await realpath(file);
    const twin = files.get(real);
    if (twin !== undefined) {
      const both = twin === given ? printable(given) : `${printable(twin)} and ${printable(given)}`;
      throw new WanqError('USAGE', `${both}: the same report is named twice`, { hint: 'name each report once' });
    }
    files.set(real, given);
    reports.push({ path: given, page: await pageOf(file), results: await readResults(file) });
  }
  return reports;
}

async function resultsFile(given: string): Promise<string> {
  const info = await stat(given).catch((error) => {
    throw fromSystemError(error, given);
  });
  if (!info.isDirectory()) return given;
  const file = path.join(given, 'results.json');
  if (await exists(file)) return file;
  const isPipeline = await exists(path.join(given, 'transformer', 'model.onnx'));
  throw new WanqError('NOT_FOUND', `${printable(given)} has no results.json`, {
    hint: isPipeline
      ? 'it is a pipeline: name the one that it was quantized from with --reference, and it is evaluated'
      : 'name the report folder that `wanq eval` wrote',
  });
}

async function pageOf(file: string): Promise<string> {
  for (const page of PAGES) {
    const candidate = path.join(path.dirname(file), page);
    if (await exists(candidate)) return candidate;
  }
  return file;
}
