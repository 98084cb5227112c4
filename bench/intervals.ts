/**
 * How often the intervals of evaluation hold the truth, on simulated data whose truth is known: of the mean of few prompts, and of the growth of
 * the Frechet distance.
 *
 *   npx tsx bench/intervals.ts [--sets N]
 */
import { parseArgs } from 'node:util';
import { DISTRIBUTIONS, type Distribution, type GrowthCase, growthCoverage, meanCoverage } from './lib/coverage.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({ options: { sets: { type: 'string', default: '2000' } } });
const sets = Number(values.sets);
const command = `npx tsx bench/intervals.ts --sets ${values.sets}`;
const percent = (share: number): number => Number((100 * share).toFixed(1));

const SIZES = [4, 8, 20, 48];
const means = (Object.keys(DISTRIBUTIONS) as Distribution[]).map((distribution): Row => {
  const covered = SIZES.map((n) => [`n = ${n}, %`, percent(meanCoverage(distribution, n, sets).covered)]);
  return { distribution, ...Object.fromEntries(covered) };
});
await report('intervals-means', { title: 'Coverage of 95 % intervals of a mean', command, rows: means });

const growths: Row[] = [];
for (const [dim, prompts, seedsPerPrompt] of [
  [8, 48, 1],
  [32, 48, 1],
  [32, 50, 4],
  [32, 200, 1],
] as const) {
  for (const skewed of [false, true]) {
    for (const damage of [0.0025, 0.04]) {
      const one: GrowthCase = { dim, prompts, seedsPerPrompt, skewed, damage };
      const { covered, width, growth } = growthCoverage(one, sets / 4, sets);
      const features = `${dim}, ${skewed ? 'lognormal' : 'normal'}`;
      const row = { features, prompts, 'seeds each': seedsPerPrompt, 'growth %': percent(growth) };
      growths.push({ ...row, 'covered %': percent(covered), 'mean width %': percent(width) });
      console.error(Object.values(growths.at(-1) ?? {}).join(' '));
    }
  }
}
await report('intervals-growth', {
  title: 'Coverage of 95 % intervals of the growth of the Frechet distance',
  command,
  rows: growths,
  notes: [`${sets / 4} sets a row; the truth is the mean growth over ${sets} others.`],
});
