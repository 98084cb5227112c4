import { printable, WanqError } from '../errors.js';
import { settingsOf } from '../gate/baseline.js';
import type { Results } from '../report/results.js';
import type { Report } from './reports.js';

/**
 * Makes sure that figures of reports may stand in one table: one reference, one way of measuring, and models that differ.
 * @throws WanqError USAGE for fewer than two reports, or two of one model; COMPARE_MISMATCH naming what differs
 */
export function assertComparable(reports: readonly Report[]): void {
  const [first, ...others] = reports;
  if (!first || others.length === 0) {
    throw new WanqError('USAGE', 'a comparison needs two reports or more', { hint: 'name another one' });
  }
  for (const other of others) {
    const differences = differencesOf(first.results, other.results);
    if (differences.length === 0) continue;
    throw new WanqError(
      'COMPARE_MISMATCH',
      `${printable(first.path)} and ${printable(other.path)} are not comparable: ${differences.join('; ')}`,
      { hint: 'evaluate both alike, as `wanq compare --reference` does' },
    );
  }
  const known = new Map<string, Report>();
  for (const report of reports) {
    const identity = identityOf(report.results);
    const twin = known.get(identity);
    if (twin) {
      throw new WanqError(
        'USAGE',
        `${printable(twin.path)} and ${printable(report.path)} are reports of the same model`,
        { hint: 'leave one of them out' },
      );
    }
    known.set(identity, report);
  }
}

/** One model run on two devices is two rows. */
function identityOf({ quantized, components }: Results): string {
  const others = (components?.changed ?? []).map(({ component, quantized: of }) => [component, of.fingerprint]);
  return JSON.stringify([quantized.fingerprint, quantized.provider, others]);
}

function differencesOf(a: Results, b: Results): string[] {
  const [before, after] = [conditions(a), conditions(b)];
  const named = Object.keys(before).flatMap((name) => {
    const [was, is] = [before[name], after[name]].map((value) => JSON.stringify(value));
    return was === is ? [] : [`${name} ${printable(was ?? 'none', 80)} and ${printable(is ?? 'none', 80)}`];
  });
  return named.length > 0 ? named : pairDifferences(a, b);
}

/** What must be the same for figures of two models to be comparable. */
function conditions(results: Results): Readonly<Record<string, unknown>> {
  return {
    reference: results.reference.fingerprint,
    'provider of the reference': results.reference.provider,
    ...settingsOf(results),
    noiseFloor: results.settings.noiseFloor,
  };
}

/** Videos and clips that are not the same ones, though the settings say so. */
function pairDifferences(a: Results, b: Results): string[] {
  const take = ({ prompt, seed }: Results['videos'][number]): string => JSON.stringify([prompt, seed]);
  const row = ({ clip, sigma, prompt }: Results['psnrDrop'][number]): string => JSON.stringify([clip, sigma, prompt]);
  if (a.videos.map(take).join() !== b.videos.map(take).join()) return ['the videos are of other prompts or seeds'];
  if (a.psnrDrop.map(row).join() !== b.psnrDrop.map(row).join()) return ['the clips of the PSNR drop are others'];
  return [];
}
