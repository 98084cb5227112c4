import { describe, expect, it } from 'vitest';
import { type JudgedMetric, judge } from '../../../src/gate/judge.js';
import { DEFAULT_RULES, type Rule } from '../../../src/gate/rules.js';

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

  it('fails where no rule is left', () => {
    expect(judge(measured(5), []).passed).toBe(false);
    expect(judge(measured(5), [rule('<=', 3, 'off')]).passed).toBe(false);
  });

  it('shows value, unit and limit', () => {
    const [check] = judge(measured(1.23456), [rule('<=', 3)]).checks;
    expect(check?.message).toBe('psnr = 1.235 dB, wanted <= 3');
  });
});

describe('the default rules', () => {
  const verdict = (drop: number, growth: number): boolean =>
    judge({ psnr_drop: { value: drop, unit: 'dB' }, fvd_growth: { value: growth, unit: '%' } }, DEFAULT_RULES).passed;

  it.each([
    [3, 14.999, true],
    [-1, -20, true],
    [3.001, 0, false],
    [0, 15, false],
  ])('hold a PSNR drop of %d dB and an FVD growth of %d %%: %s', (drop, growth, passed) => {
    expect(verdict(drop, growth)).toBe(passed);
  });
});
