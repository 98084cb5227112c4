import { describe, expect, it } from 'vitest';
import { Figures, type Unit } from '../../../src/search/figures.js';
import type { Sample } from '../../../src/search/samples.js';
import type { Sensitivity, SensitivityIdentity } from '../../../src/search/sensitivity-file.js';

const identity = { model: 'm' } as SensitivityIdentity;
const units: Unit[] = [
  { section: 'linears', name: 'a', members: [0], bytesSaved: 10 },
  { section: 'linears', name: 'b', members: [1], bytesSaved: 20 },
  { section: 'groups', name: 'all', members: [0, 1], bytesSaved: 30 },
];
const samples: Sample[] = [0, 3, 3].map((bucket, step) => ({ prompt: 0, step, branch: 'cond', timestep: 0, bucket }));

function measured(figures: Figures): void {
  for (const s of samples.keys()) for (const unit of figures.missing(s)) figures.set(unit, s, (s + 1) / 100);
}

describe('Figures', () => {
  it('tells what is missing until all is measured', () => {
    const figures = new Figures(units, samples, undefined);
    expect(figures.missing(1).map(({ name }) => name)).toEqual(['a', 'b', 'all']);
    figures.set(units[1] as Unit, 1, 0.5);
    expect(figures.missing(1).map(({ name }) => name)).toEqual(['a', 'all']);
    expect(figures.missing(0)).toHaveLength(3);
  });

  it('means over samples, and over those of each bucket', () => {
    const figures = new Figures(units, samples, undefined);
    expect(figures.complete).toBe(false);
    measured(figures);
    expect(figures.complete).toBe(true);
    const { linears, groups } = figures.toSensitivity(identity);
    expect(Object.keys(linears)).toEqual(['a', 'b']);
    expect(linears.a).toEqual({
      ...{ damage: 0.02, sqnr: 16.99, bytesSaved: 10 },
      buckets: { 0: 0.01, 3: 0.025 },
      noise: [0.01, 0.02, 0.03],
    });
    expect(groups.all).toMatchObject({ damage: 0.02, bytesSaved: 30 });
  });

  it('has no decibels where there is no noise', () => {
    const figures = new Figures(units, samples, undefined);
    for (const s of samples.keys()) for (const unit of units) figures.set(unit, s, 0);
    expect(figures.toSensitivity(identity).linears.a).toMatchObject({ damage: 0, sqnr: null });
  });
});

describe('Figures of an edited file', () => {
  function edited(change: (linears: Record<string, Sensitivity['linears'][string]>) => void): Figures {
    const whole = new Figures(units, samples, undefined);
    measured(whole);
    const sensitivity = whole.toSensitivity(identity);
    const linears = { ...sensitivity.linears };
    change(linears);
    return new Figures(units, samples, { ...sensitivity, linears });
  }
  const missing = (figures: Figures): string[][] =>
    [...samples.keys()].map((s) => figures.missing(s).map(({ name }) => name));

  it('measures an entry again that was deleted', () => {
    expect(missing(edited((linears) => delete linears.a))).toEqual([['a'], ['a'], ['a']]);
  });

  it('goes on with an entry that was not finished', () => {
    const figures = edited((linears) => {
      linears.b = { damage: 0.01, noise: [0.01, null] };
    });
    expect(missing(figures)).toEqual([[], ['b'], ['b']]);
  });

  it.each([
    ['alone', { damage: 0.7 }],
    ['beside what was measured', { damage: 0.7, noise: [0.01, 0.02, 0.03] }],
  ])('keeps a damage that a person set, %s', (_, entry) => {
    const figures = edited((linears) => {
      linears.a = entry;
    });
    expect(missing(figures)).toEqual([[], [], []]);
    expect(figures.toSensitivity(identity).linears.a).toEqual({ damage: 0.7, sqnr: 1.55, bytesSaved: 10 });
  });
});
