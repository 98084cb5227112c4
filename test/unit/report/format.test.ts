import { describe, expect, it } from 'vitest';
import { formatBytes, formatDuration, formatMetric } from '../../../src/report/format.js';

describe('formatMetric', () => {
  it.each([
    [{ value: 1.236, unit: 'dB' }, '1.24 dB'],
    [{ value: 12.3, unit: '%' }, '12.30 %'],
    [{ value: 0.98765, unit: '' }, '0.9877'],
    [{ value: 3, unit: 'x' }, '3.0000 x'],
    [{ value: -0.5, unit: 'dB' }, '-0.50 dB'],
    [{ value: -0.0001, unit: 'dB' }, '0.00 dB'],
    [{ value: Number.POSITIVE_INFINITY, unit: 'dB' }, 'Infinity dB'],
    [{ value: Number.NaN, unit: '' }, 'NaN'],
    [{ value: null, unit: 'dB' }, '-'],
  ])('shows %j as %s', (metric, text) => {
    expect(formatMetric(metric)).toBe(text);
  });
});

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [1_234_567, '1.23 MB'],
    [1e9, '1.00 GB'],
    [20_480_000_000, '20.48 GB'],
    [1e12, '1.00 TB'],
    [1e16, '10000.00 TB'],
  ])('shows %i as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it('carries into the next unit where rounding does', () => {
    expect(formatBytes(999_999)).toBe('1.00 MB');
  });
});

describe('formatDuration', () => {
  it.each([
    [0, '0:00'],
    [499, '0:00'],
    [59_500, '1:00'],
    [61_000, '1:01'],
    [3_599_000, '59:59'],
    [3_600_000, '1:00:00'],
    [36_061_000, '10:01:01'],
  ])('shows %i ms as %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});
