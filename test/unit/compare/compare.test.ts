import { describe, expect, it } from 'vitest';
import { compare } from '../../../src/compare/compare.js';
import type { Report } from '../../../src/compare/reports.js';
import type { WanqError } from '../../../src/errors.js';
import type { Rule } from '../../../src/gate/rules.js';
import type { ComparedFigure, ComparedMetric, Comparison } from '../../../src/report/comparison.js';
import type { Metric, Results } from '../../../src/report/results.js';
import { thrownBy } from '../helpers/errors.js';
import { HARD, modelReport, modelResults, plus, reportOf } from './fixture.js';

const standings = ({ models }: Comparison, metric: ComparedMetric): ComparedFigure['standing'][] =>
  models.map(({ figures }) => figures[metric].standing);

const lower = (value: number | null, n = 6): Metric => ({ value, unit: '%', better: 'lower', n });

/** Why reports are refused. */
const refusal = (reports: readonly Report[]): WanqError => thrownBy(() => compare(reports));

describe('compare', () => {
  it('tells models apart whose prompts differ far more than they do, for they are the same prompts', () => {
    const made = compare([
      modelReport('a', { sqnr: plus(HARD, 1, 1.2, 0.9) }),
      modelReport('b', { sqnr: plus(HARD, 0, 0.1, -0.1) }),
    ]);
    expect(standings(made, 'sqnr')).toEqual(['best', 'worse']);
    const toBest = made.models[1]?.figures.sqnr.toBest;
    expect(toBest).toMatchObject({ best: 'a', pairs: 6, interval: { level: 0.95, units: 6 } });
    expect(toBest?.value).toBeCloseTo(-1.0333, 3);
    expect(toBest?.interval?.high).toBeLessThan(-0.9);
  });

  it('marks those whose difference to the best changes its sign from prompt to prompt', () => {
    const made = compare([
      modelReport('a', { sqnr: plus(HARD, -0.4, 0.5) }),
      modelReport('b', { sqnr: plus(HARD, 0.1, 0.2) }),
      modelReport('c', { sqnr: plus(HARD, -5) }),
    ]);
    expect(standings(made, 'sqnr')).toEqual(['tied', 'best', 'worse']);
    const { interval } = made.models[0]?.figures.sqnr.toBest ?? {};
    expect(Number(interval?.low)).toBeLessThan(0);
    expect(Number(interval?.high)).toBeGreaterThan(0);
  });

  it('holds less to be better of a drop, over clips', () => {
    const drop = [1, 2, 3, 4, 5, 6];
    const made = compare([modelReport('a', { drop: plus(drop, 0.5, 0.6) }), modelReport('b', { drop })]);
    expect(standings(made, 'psnr_drop')).toEqual(['worse', 'best']);
    expect(made.models[0]?.figures.psnr_drop.toBest).toMatchObject({ best: 'b', pairs: 18, interval: { units: 6 } });
    expect(made.models[0]?.figures.psnr_drop.toBest?.value).toBeCloseTo(0.55, 9);
  });

  it('gives the same intervals whatever the order of models', () => {
    const [a, b] = [modelReport('a', { sqnr: plus(HARD, -0.4, 0.5) }), modelReport('b', { sqnr: plus(HARD, 0.1) })];
    const [one, two] = [compare([a, b]), compare([b, a])];
    expect(one.models[0]?.figures.sqnr).toEqual(two.models[1]?.figures.sqnr);
  });

  it('takes seeds of one prompt for one unit', () => {
    const seeds = (report: Report): Report => {
      const { results } = report;
      return { ...report, results: { ...results, settings: { ...results.settings, prompts: 3, seedsPerPrompt: 2 } } };
    };
    const made = compare([
      seeds(modelReport('a', { sqnr: plus(HARD, 1) })),
      seeds(modelReport('b', { sqnr: plus(HARD, 0, 0.5) })),
    ]);
    expect(made.models[1]?.figures.sqnr.toBest).toMatchObject({ pairs: 6, interval: { units: 3 } });
  });

  it('leaves pairs out of which one is not measured', () => {
    const made = compare([
      modelReport('a', { psnr: [30, 31, 32, null, null, 32] }),
      modelReport('b', { psnr: [29, 30, null, 31, null, 29] }),
    ]);
    expect(made.models[1]?.figures.psnr.toBest).toMatchObject({ best: 'a', pairs: 3, interval: { units: 3 } });
    expect(made.models[1]?.figures.psnr.toBest?.value).toBeCloseTo(-5 / 3, 9);
  });

  it('says nothing of one prompt, and says so', () => {
    const one = (value: number): number[] => [value];
    const { models, notes } = compare([modelReport('a', { sqnr: one(29) }), modelReport('b', { sqnr: one(30) })]);
    expect(models[0]?.figures.sqnr).toMatchObject({ standing: null, toBest: { best: 'b', pairs: 1, value: -1 } });
    expect(notes).toEqual([expect.stringMatching(/^sqnr: one prompt or clip does not tell/)]);
  });

  it('has models share the first place where their figures are the same', () => {
    expect(standings(compare([modelReport('a'), modelReport('b')]), 'sqnr')).toEqual(['best', 'best']);
  });

  it('tells a perfect model from others, and from itself', () => {
    const perfect = new Array<number>(6).fill(Number.POSITIVE_INFINITY);
    const made = compare([
      modelReport('a', { sqnr: HARD }),
      modelReport('b', { sqnr: perfect }),
      modelReport('c', { sqnr: [...perfect.slice(1), 30] }),
    ]);
    expect(standings(made, 'sqnr')).toEqual(['worse', 'best', 'best']);
    expect(made.models[0]?.figures.sqnr.toBest).toEqual({ best: 'b', value: Number.NEGATIVE_INFINITY, pairs: 6 });
  });

  it('marks nothing but the best where results hold no figures of single videos', () => {
    const made = compare([
      modelReport('a', { metrics: { fvd_growth: lower(4), size_ratio: lower(0.5) } }),
      modelReport('b', { metrics: { fvd_growth: lower(-1), size_ratio: lower(0.4) } }),
      modelReport('c', { metrics: { fvd_growth: lower(null) } }),
    ]);
    expect(standings(made, 'fvd_growth')).toEqual([null, 'best', null]);
    expect(made.models[0]?.figures.fvd_growth.toBest).toBeUndefined();
  });

  it('tells FVD growth apart by the intervals of both, and no further', () => {
    const growth = (value: number, half: number): { metrics: { fvd_growth: Metric } } => ({
      metrics: {
        fvd_growth: { ...lower(value), interval: { low: value - half, high: value + half, level: 0.95, units: 6 } },
      },
    });
    const made = compare([
      modelReport('best', growth(-1, 3)),
      modelReport('near', growth(3.9, 4)),
      modelReport('far', growth(4.1, 4)),
      modelReport('unknown', { metrics: { fvd_growth: lower(9) } }),
    ]);
    expect(standings(made, 'fvd_growth')).toEqual(['best', 'tied', 'worse', null]);
    expect(made.models[1]?.figures.fvd_growth.toBest).toMatchObject({
      best: 'best',
      pairs: null,
      interval: { units: 6 },
    });
    expect(made.models[1]?.figures.fvd_growth.toBest?.interval?.low).toBeCloseTo(4.9 - 5, 9);
  });

  it('has no best of what none has, is not a number, or was taken over nothing', () => {
    const made = compare([
      modelReport('a', { metrics: { fvd_growth: lower(Number.NaN), ssim: lower(1, 0) } }),
      modelReport('b', { metrics: { fvd_growth: lower(null) } }),
    ]);
    expect(standings(made, 'fvd_growth')).toEqual([null, null]);
    expect(made.models[0]?.figures.ssim).toMatchObject({ value: null, standing: null });
    expect(standings(made, 'ssim')[1]).toBe('best');
  });

  it('finds the front of size and SQNR', () => {
    const made = compare([
      modelReport('large', { bytes: 9e9, sqnr: plus(HARD, 3) }),
      modelReport('beaten', { bytes: 6e9, sqnr: plus(HARD, 1) }),
      modelReport('middle', { bytes: 5e9, sqnr: plus(HARD, 2) }),
      modelReport('small', { bytes: 3e9, sqnr: HARD }),
      modelReport('unmeasured', { bytes: 1e9, metrics: { sqnr: lower(null, 0) } }),
    ]);
    expect(made.models.map(({ front }) => front)).toEqual([true, false, true, true, false]);
  });

  it('judges each by the rules', () => {
    const rules: Rule[] = [{ metric: 'sqnr', operator: '>=', limit: 33, level: 'error' }];
    const made = compare([modelReport('a', { sqnr: HARD }), modelReport('b', { sqnr: plus(HARD, -5) })], rules);
    expect(made.models.map(({ verdict }) => verdict.passed)).toEqual([true, false]);
  });

  it('takes the lower branch of each step', () => {
    const { models } = compare([modelReport('a'), modelReport('b')]);
    const { steps } = modelResults('a');
    const cond = steps.filter(({ branch }) => branch === 'cond').map(({ sqnr }) => sqnr as number);
    const uncond = steps.filter(({ branch }) => branch === 'uncond').map(({ sqnr }) => sqnr as number);
    expect(models[0]?.steps.map(({ sqnr }) => sqnr)).toEqual(cond.map((value, i) => Math.min(value, uncond[i] ?? 0)));
  });

  it('notes other components, random calibration, and machines that are not alike', () => {
    const facts = { fingerprint: 'x', bytes: 2e9 };
    const other: Results = {
      ...modelResults('b'),
      platform: 'linux-arm64',
      components: {
        changed: [{ component: 'text_encoder', reference: facts, quantized: { fingerprint: 'y', bytes: 1e9 } }],
        ...{ embeddings: [], videos: [] },
      },
    };
    const { quantized } = other;
    const { notes } = compare([
      modelReport('a'),
      reportOf({ ...other, quantized: { ...quantized, calibratedOn: 'synthetic' } }),
    ]);
    expect(notes).toEqual([
      'b has another text_encoder (2.00 GB -> 1.00 GB); what is compared here is its transformer',
      'b was calibrated on random embeddings, not on prompts',
      'not all ran alike: platform linux-x64 (a), linux-arm64 (b)',
    ]);
  });
});

describe('reports that are not comparable', () => {
  const made = modelResults('b');
  const settings = (changes: Partial<Results['settings']>): Results => ({
    ...made,
    settings: { ...made.settings, ...changes },
  });
  const reference = (changes: Partial<Results['reference']>): Results => ({
    ...made,
    reference: { ...made.reference, ...changes },
  });

  it.each<[string, Results, string]>([
    ['another reference', reference({ fingerprint: 'other' }), 'reference "'],
    [
      'a reference on another device',
      reference({ provider: 'webgpu' }),
      'provider of the reference "cpu" and "webgpu"',
    ],
    ['other prompts', settings({ promptsDigest: 'd'.repeat(64) }), 'promptsDigest "ccc'],
    ['another seed', settings({ seed: 41 }), 'seed 40 and 41'],
    ['more steps', settings({ steps: 4 }), 'steps 3 and 4'],
    ['other guidance', settings({ guidance: 3 }), 'guidance 5 and 3'],
    ['another scheduler', settings({ scheduler: 'Euler' }), 'scheduler "UniPCMultistepScheduler" and "Euler"'],
    ['other latents', settings({ latents: [48, 5, 8, 8] }), 'latents [48,5,16,16] and [48,5,8,8]'],
    ['other noise levels', settings({ sigmas: [0.5] }), 'sigmas [0.25,0.5,0.75] and [0.5]'],
    ['other clips', settings({ clipsDigest: 'e'.repeat(64) }), 'clips "aaa'],
    ['no features', settings({ featuresDigest: null }), 'features "bbb'],
    ['another noise floor', settings({ noiseFloor: 'none' }), 'noiseFloor "fp16-weights" and "none"'],
    ['several', settings({ steps: 4, seed: 41 }), 'seed 40 and 41; steps 3 and 4'],
    [
      'videos of other seeds',
      { ...made, videos: made.videos.map((video) => ({ ...video, seed: video.seed + 1 })) },
      'the videos are of other prompts or seeds',
    ],
  ])('%s', (_, other, says) => {
    const { code, message } = refusal([modelReport('a'), reportOf(other)]);
    expect(code).toBe('COMPARE_MISMATCH');
    expect(message).toContain(`reports/a and reports/b are not comparable: `);
    expect(message).toContain(says);
  });

  it('does not mind the folder that clips and features lie in', () => {
    const other = settings({ clips: `/elsewhere/${made.settings.clips.split('/').at(-1)}`, features: '/opt/i3d' });
    expect(compare([modelReport('a'), reportOf(other)]).models).toHaveLength(2);
  });

  it('one alone, and a model twice', () => {
    expect(refusal([modelReport('a')])).toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('two reports'),
    });
    const twin = { ...modelReport('a'), path: 'reports/again' };
    expect(refusal([modelReport('a'), modelReport('b'), twin])).toMatchObject({
      code: 'USAGE',
      message: 'reports/a and reports/again are reports of the same model',
    });
  });

  it('takes one model on two devices for two rows', () => {
    const { quantized } = made;
    const { models } = compare([reportOf(made), reportOf({ ...made, quantized: { ...quantized, provider: 'cuda' } })]);
    expect(models.map(({ name }) => name)).toEqual(['b', 'b-2']);
  });

  it('keeps hostile text in one line', () => {
    const { message } = refusal([modelReport('a'), reportOf(settings({ scheduler: 'x\n\u001b[31m::error::' }))]);
    expect(message).not.toMatch(/\p{Cc}/u);
  });
});
