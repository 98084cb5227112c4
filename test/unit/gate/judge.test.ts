import { describe, expect, it } from 'vitest';
import { type JudgedMetric, judge } from '../../../src/gate/judge.js';
import { AGGREGATIONS, type Aggregation, DEFAULT_RULES, type Rule } from '../../../src/gate/rules.js';

const rule = (operator: Rule['operator'], limit: number, level: Rule['level'] = 'error'): Rule => ({
  metric: 'psnr',
  operator,
  limit,
  level,
});

const measured = (value: number | null, note?: string): Record<string, JudgedMetric> => ({
  psnr: { value, unit: 'dB', note },
});

describe('judge', () => {
  it.each<[Rule['operator'], number, boolean]>([
    ['<', 2.999, true],
    ['<', 3, false],
    ['<=', 3, true],
    ['<=', 3.001, false],
    ['>', 3, false],
    ['>', 3.001, true],
    ['>=', 3, true],
    ['>=', 2.999, false],
  ])('holds against %s 3 the value %d: %s', (operator, value, passed) => {
    const verdict = judge(measured(value), [rule(operator, 3)]);
    expect(verdict.passed).toBe(passed);
    expect(verdict.checks).toMatchObject([{ value, passed }]);
  });

  it.each<[number, Rule['operator'], boolean]>([
    [Number.POSITIVE_INFINITY, '>=', true],
    [Number.POSITIVE_INFINITY, '>', true],
    [Number.POSITIVE_INFINITY, '<=', false],
    [Number.POSITIVE_INFINITY, '<', false],
    [Number.NEGATIVE_INFINITY, '<=', false],
    [Number.NEGATIVE_INFINITY, '<', false],
    [Number.NEGATIVE_INFINITY, '>=', false],
    [Number.NaN, '<=', false],
    [Number.NaN, '>=', false],
    [Number.NaN, '<', false],
    [Number.NaN, '>', false],
  ])('takes %d under %s as passed: %s', (value, operator, passed) => {
    expect(judge(measured(value), [rule(operator, 3)]).passed).toBe(passed);
    expect(judge(measured(value), [rule(operator, -1e308)]).passed).toBe(passed);
    const message = judge(measured(value), [rule(operator, 3)]).checks[0]?.message;
    expect(message?.includes('no usable value')).toBe(!passed);
  });

  it('fails a metric that was not measured, and says why', () => {
    const verdict = judge(measured(null, 'no feature network was given'), [rule('>=', 3)]);
    expect(verdict.passed).toBe(false);
    expect(verdict.checks[0]?.message).toContain('no feature network was given');
    expect(judge(measured(null), [rule('>=', 3)]).checks[0]?.message).toContain('not measured');
  });

  it('fails a metric that is missing, and names the nearest one', () => {
    const metrics = { psnr_drop: { value: 1, unit: 'dB' }, fvd_growth: { value: 1, unit: '%' } };
    const verdict = judge(metrics, [{ ...rule('<=', 3), metric: 'psnr_dorp' }]);
    expect(verdict.passed).toBe(false);
    expect(verdict.checks[0]).toMatchObject({ value: null, passed: false });
    expect(verdict.checks[0]?.message).toContain('nearest metric is psnr_drop');
    expect(judge({}, [rule('<=', 3)]).passed).toBe(false);
  });

  it('takes no metric from the prototype of the record', () => {
    expect(judge({}, [{ ...rule('<=', 3), metric: 'constructor' }]).checks[0]?.message).toContain('is missing');
  });

  it('reports a warning that does not fail the gate', () => {
    const verdict = judge(measured(5), [rule('<=', 3, 'warn')]);
    expect(verdict).toMatchObject({ passed: true, checks: [{ passed: false }] });
    expect(judge(measured(5), [rule('<=', 3, 'warn'), rule('<=', 4)]).passed).toBe(false);
  });

  it('leaves out rules that are off', () => {
    const verdict = judge(measured(5), [rule('<=', 3, 'off'), rule('<=', 6)]);
    expect(verdict.passed).toBe(true);
    expect(verdict.checks).toHaveLength(1);
  });

  it.each([[[]], [[rule('<=', 3, 'off')]]])('fails where no rule is left of %j, and says so', (rules) => {
    const verdict = judge(measured(5), rules);
    expect(verdict).toMatchObject({ passed: false, checks: [] });
    expect(verdict.problems).toEqual([expect.stringContaining('checks nothing does not pass')]);
  });

  it('fails results of no prompts', () => {
    const of = (prompts: number) => judge(measured(5), [rule('>=', 3)], { prompts });
    expect(of(1).passed).toBe(true);
    expect(of(0)).toMatchObject({ passed: false, problems: ['the results are of no prompts'] });
  });

  it('shows value, unit and limit', () => {
    const [check] = judge(measured(1.23456), [rule('<=', 3)]).checks;
    expect(check?.message).toBe('psnr = 1.235 dB, wanted <= 3');
  });

  it.each([
    [3.0001, 'psnr = 3.0001 dB, wanted <= 3'],
    [3, 'psnr = 3.000 dB, wanted <= 3'],
    [0.00012, 'psnr = 0.00012 dB, wanted <= 3'],
  ])('does not round away what decided about %d', (value, message) => {
    expect(judge(measured(value), [rule('<=', 3)]).checks[0]?.message).toBe(message);
  });
});

describe('samples', () => {
  const sampled = (n: number | undefined, minSamples?: number) =>
    judge({ psnr: { value: 40, unit: 'dB', n } }, [{ ...rule('>=', 3), minSamples }]).checks[0];

  it.each([
    [8, 8, true],
    [7, 8, false],
    [undefined, 1, false],
    [0, undefined, false],
    [0, 1, false],
    [undefined, undefined, true],
  ])('takes a figure over %d samples where %d are wanted: %s', (n, minSamples, passed) => {
    expect(sampled(n, minSamples)).toMatchObject({ passed, value: passed ? 40 : null });
  });

  it('says how many there are', () => {
    expect(sampled(7, 8)?.message).toContain('taken over 7 samples, and 8 are wanted');
    expect(sampled(0)?.message).toContain('over no samples');
  });
});

describe('aggregations', () => {
  const full: JudgedMetric = {
    ...{ value: 40, unit: 'dB', better: 'higher', n: 8, median: 41, worst: 30 },
    interval: { low: 38, high: 42, level: 0.95, units: 4 },
  };
  const held = (aggregation: Aggregation, metric = full, prompts?: number) =>
    judge({ psnr: metric }, [{ ...rule('>=', 3), aggregation }], prompts === undefined ? {} : { prompts }).checks[0];

  it.each<[Aggregation, number, string]>([
    ['mean', 40, 'psnr = 40.000 dB, wanted >= 3'],
    ['median', 41, 'median of psnr = 41.000 dB, wanted >= 3'],
    ['worst', 30, 'worst of psnr = 30.000 dB, wanted >= 3'],
    ['lower-bound', 38, 'lower bound of psnr (95 %) = 38.000 dB, wanted >= 3'],
    ['upper-bound', 42, 'upper bound of psnr (95 %) = 42.000 dB, wanted >= 3'],
  ])('hold %s', (aggregation, value, message) => {
    expect(held(aggregation)).toMatchObject({ value, passed: true, message });
  });

  it.each<[Aggregation, string]>([
    ['median', 'has no median'],
    ['worst', 'has no worst sample'],
    ['lower-bound', 'has no interval'],
    ['upper-bound', 'has no interval'],
  ])('fail where the metric has no %s', (aggregation, why) => {
    const found = held(aggregation, { value: 40, unit: 'dB', n: 8 });
    expect(found).toMatchObject({ value: null, passed: false });
    expect(found?.message).toContain(why);
  });

  it('say that one prompt gives no interval', () => {
    const one = 'one prompt gives no interval';
    expect(held('lower-bound', { value: 40, unit: 'dB', n: 8 }, 1)?.message).toContain(one);
    const interval = { low: 38, high: 42, level: 0.95, units: 1 };
    expect(held('upper-bound', { ...full, interval })).toMatchObject({ passed: false });
    expect(held('upper-bound', { ...full, interval })?.message).toContain(one);
  });

  it('do not make up for a metric that is not a number, or has no usable end', () => {
    for (const aggregation of AGGREGATIONS) {
      expect(held(aggregation, { ...full, value: Number.NaN }), aggregation).toMatchObject({ passed: false });
      expect(held(aggregation, { ...full, value: null }), aggregation).toMatchObject({ passed: false, value: null });
    }
    const interval = { low: Number.NEGATIVE_INFINITY, high: Number.NaN, level: 0.95, units: 4 };
    expect(held('lower-bound', { ...full, interval })).toMatchObject({ passed: false });
    expect(held('upper-bound', { ...full, interval })).toMatchObject({ passed: false });
    expect(held('worst', { ...full, value: Number.POSITIVE_INFINITY })).toMatchObject({ passed: true, value: 30 });
  });
});

describe('the default rules', () => {
  const verdict = (drop: number, growth: number, excess: number, scale: number): boolean =>
    judge(
      {
        psnr_drop: { value: drop, unit: 'dB' },
        fvd_growth: { value: growth, unit: '%' },
        linear_excess: { value: excess, unit: 'dB' },
        scale_ratio_max: { value: scale, unit: 'x' },
      },
      DEFAULT_RULES,
    ).passed;

  it.each([
    { drop: 3, growth: 14.999, excess: 4, scale: 1.05, passed: true },
    { drop: -1, growth: -20, excess: -3, scale: 1, passed: true },
    { drop: 3.001, growth: 0, excess: 0, scale: 1, passed: false },
    { drop: 0, growth: 15, excess: 0, scale: 1, passed: false },
    { drop: 0, growth: 0, excess: 4.001, scale: 1, passed: false },
    { drop: 0, growth: 0, excess: 0, scale: 1.051, passed: false },
  ])(
    'hold a drop of $drop dB, an FVD growth of $growth %, an excess of $excess dB and a scale $scale x the plan’s: $passed',
    ({ drop, growth, excess, scale, passed }) => {
      expect(verdict(drop, growth, excess, scale)).toBe(passed);
    },
  );
});
