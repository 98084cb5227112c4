import { describe, expect, it } from 'vitest';
import type { Metric } from '../../../src/report/results.js';
import {
  predictionError,
  SEARCH_HEAD,
  searchMarkdown,
  searchRows,
  type TriedPlan,
} from '../../../src/report/search.js';

const metric = (value: number, unit: string): Metric => ({ value, unit, better: 'higher', n: 1 });

function plan(givenBack: string[], bytes: number, sqnr: number, predictedSqnr: number, passed: boolean): TriedPlan {
  const metrics = { sqnr: metric(sqnr, 'dB'), psnr_drop: metric(0.1, 'dB') };
  return { givenBack, bytes, speedBound: 1.5, predictedSqnr, metrics, passed };
}

const failed = plan([], 1e6, 38, 38.2, false);
const chosen = plan(['a|b'], 2e6, 41, 40.9, true);
const worse = plan(['a|b', 'c'], 3e6, 40, 41.5, true);
const whole = plan(['a|b', 'c', 'd'], 4e6, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, true);
const report = { plans: [whole, failed, worse, chosen], chosen, linears: 3, complete: true };

describe('searchRows', () => {
  it('has the plans by size, with a star where none is both smaller and better', () => {
    const rows = searchRows(report);
    expect(rows.map((row) => row.length)).toEqual(new Array(4).fill(SEARCH_HEAD.length));
    expect(rows.map(([, weights]) => weights)).toEqual(['1.00 MB *', '2.00 MB *', '3.00 MB', '4.00 MB *']);
    expect(rows[1]).toEqual(['1 of 3', '2.00 MB *', '1.50x', '40.90 dB', '41.00 dB', '0.10 dB', '-', 'passed, chosen']);
    expect(rows[3]?.slice(3, 5)).toEqual(['-', 'Infinity dB']);
  });
});

describe('predictionError', () => {
  it('is the largest of those that can be compared', () => {
    expect(predictionError(report.plans)).toBeCloseTo(1.5, 9);
    expect(predictionError([whole])).toBeUndefined();
  });
});

describe('searchMarkdown', () => {
  it('tells what was chosen and what it gives back, names as text', () => {
    const text = searchMarkdown(report);
    expect(text).toContain('Chosen: 1 linears keep their precision.');
    expect(text).toContain('| a\\|b |');
    expect(text).toContain('Predicted SQNR was off by 1.50 dB at most.');
    expect(text).not.toContain('for want of');
  });

  it('says so where none passed, and where it was not finished', () => {
    const text = searchMarkdown({ ...report, chosen: undefined, complete: false });
    expect(text).toContain('No plan passed.');
    expect(text).toContain('for want of evaluations or time');
  });
});
