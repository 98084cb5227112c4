import { printable, WanqError } from '../errors.js';
import { assertWritable, refuseExisting, withOutput } from '../util/files.js';
import { type Calibration, identityDifferences, readCalibration, writeCalibration } from './file.js';

export interface MergeSummary {
  readonly output: string;
  readonly prompts: number;
  readonly activations: number;
}

/**
 * Joins the shards of one run into the file that the run would have written in one piece, bit for bit: histograms and ranges are exact
 * under any order of merging. Holds the sum and one shard in memory.
 *
 * @throws WanqError USAGE for fewer than one file; OUTPUT_EXISTS; CALIBRATION_MISMATCH where the files are of different runs, hold a prompt
 * twice or leave one out; CALIBRATION_INVALID, NOT_FOUND
 */
export async function mergeCalibrations(files: readonly string[], output: string): Promise<MergeSummary> {
  await refuseExisting(output);
  await assertWritable(output);
  return withOutput(output, () => mergeInto(files, output));
}

async function mergeInto(files: readonly string[], output: string): Promise<MergeSummary> {
  let total: Calibration | undefined;
  const holders = new Map<number, string>();
  for (const file of files) {
    const part = await readCalibration(file);
    if (total) refuseOther(total, part, files[0] as string, file);
    for (const prompt of part.done) {
      const other = holders.get(prompt);
      if (other !== undefined) {
        throw new WanqError(
          'CALIBRATION_MISMATCH',
          `${printable(file)} and ${printable(other)} both hold prompt ${prompt + 1}`,
          { hint: 'name each shard once' },
        );
      }
      holders.set(prompt, file);
    }
    if (total) {
      for (const [i, activation] of part.activations.entries()) total.activations[i]?.merge(activation);
      for (const [i, { magnitude }] of part.outputs.entries()) total.outputs[i]?.add(magnitude);
    }
    total ??= part;
  }
  if (!total) throw new WanqError('USAGE', 'there is nothing to merge', { hint: 'name the shards' });
  const { promptCount } = total.identity;
  const missing = Array.from({ length: promptCount }, (_, i) => i).filter((prompt) => !holders.has(prompt));
  if (missing.length > 0) {
    throw new WanqError(
      'CALIBRATION_MISMATCH',
      `${missing.length} of ${promptCount} prompts are in none of the files (the first is prompt ${(missing[0] as number) + 1})`,
      { hint: 'name all shards, and repeat the command of one that did not finish' },
    );
  }
  await writeCalibration(output, { ...total, shard: null, done: [...holders.keys()] });
  return { output, prompts: promptCount, activations: total.activations.length };
}

/** The runtime counts too: another one rounds differently, and the sum would be of no run that could be repeated. */
function refuseOther(first: Calibration, other: Calibration, firstFile: string, file: string): void {
  const differs: string[] = identityDifferences(first.identity, other.identity);
  for (const key of ['provider', 'runtimeVersion', 'wanqVersion'] as const) {
    if (first[key] !== other[key]) differs.push(key);
  }
  const values = ({ activations }: Calibration): string => JSON.stringify(activations.map(({ value }) => value));
  if (differs.length === 0 && values(first) !== values(other)) differs.push('activations');
  if (differs.length === 0) return;
  throw new WanqError(
    'CALIBRATION_MISMATCH',
    `${printable(file)} is no shard of the run that ${printable(firstFile)} is of (it differs in ${differs.join(', ')})`,
    { hint: 'merge shards of one run only' },
  );
}
