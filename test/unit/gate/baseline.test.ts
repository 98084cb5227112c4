import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  type Baseline,
  type BaselineFile,
  baselineOf,
  baselineText,
  readBaseline,
  type Tolerances,
  writeBaseline,
} from '../../../src/gate/baseline.js';
import { baselineChanges, compareBaseline } from '../../../src/gate/compare.js';
import type { JudgedMetric, JudgedResults } from '../../../src/gate/subject.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';
import { dB, HOSTILE, results } from './fixture.js';

function made(of: JudgedResults = results(), tolerances: Tolerances = {}): Baseline {
  const baseline = baselineOf(of, tolerances);
  if ('refused' in baseline) throw new Error(baseline.refused.join());
  return baseline;
}

const held = (baseline: Baseline): BaselineFile => ({ file: 'baseline.json', digest: 'a'.repeat(64), baseline });

/** Results with other figures of some metrics. */
const changed = (metrics: Readonly<Record<string, JudgedMetric>>, more: Partial<JudgedResults> = {}): JudgedResults =>
  results({ metrics: { ...results().metrics, ...metrics }, ...more });

const compared = (now: JudgedResults, baseline: Baseline = made()) => compareBaseline(held(baseline), now);

/** The metrics that got worse. */
const failed = (now: JudgedResults, baseline?: Baseline): string[] =>
  compared(now, baseline).checks.flatMap(({ passed, metric }) => (passed ? [] : [metric]));

describe('baselineOf', () => {
  it('holds the metrics that are compared, without free runs, costs and what was not measured', () => {
    expect(Object.keys(made().metrics)).toEqual(['psnr_drop', 'sqnr', 'sqnr_min', 'size_ratio']);
    expect(made().metrics.sqnr).toEqual({ value: 42.5, unit: 'dB', better: 'higher' });
    expect(Object.keys(made(changed({ sqnr: dB(42, { n: 0 }) })).metrics)).not.toContain('sqnr');
    const tolerances: Tolerances = { psnr: { absolute: 3 }, sqnr: 'off' };
    expect(Object.keys(made(results(), tolerances).metrics)).toEqual(['psnr_drop', 'sqnr_min', 'psnr', 'size_ratio']);
  });

  it('takes what makes results comparable, and digests of files in place of paths', () => {
    const { settings } = results();
    const of = made(results({ settings: { ...settings, featuresDigest: 'a'.repeat(64) } }));
    expect(of.settings).toMatchObject({
      ...{ clips: 'b'.repeat(64), features: 'a'.repeat(64), clipCount: 2, inspected: 2 },
    });
    expect(of.reference).toBe('f'.repeat(64));
    expect(of.clips).toEqual([
      { clip: 0, prompt: 'a', drop: 0.2 },
      { clip: 1, prompt: 'b', drop: 0.2 },
    ]);
  });

  it.each([
    ['NaN', { sqnr: dB(Number.NaN) }],
    ['-Infinity', { sqnr: dB(Number.NEGATIVE_INFINITY) }],
    ['Infinity', { psnr_drop: dB(Number.POSITIVE_INFINITY, { better: 'lower' }) }],
  ])('refuses results with %s', (value, metrics) => {
    expect(baselineOf(changed(metrics), {})).toEqual({ refused: [expect.stringContaining(`is ${value}`)] });
  });

  it('refuses results without anything to compare', () => {
    const { psnr, fvd_growth } = results().metrics;
    const metrics = { psnr: psnr as JudgedMetric, fvd_growth: fvd_growth as JudgedMetric };
    expect(baselineOf(results({ metrics }), {})).toHaveProperty('refused');
  });
});

describe('the file', () => {
  it('comes back as it was written, infinities included, and leaves nothing beside it', async () => {
    const folder = await temporaryFolder();
    const file = path.join(folder, 'baseline.json');
    const baseline = made(changed({ sqnr: dB(Number.POSITIVE_INFINITY) }), {
      psnr: { relative: 0.1 },
      sqnr_min: 'off',
    });
    await writeBaseline(file, baseline);
    const read = await readBaseline(file);
    expect(read.baseline).toEqual(baseline);
    expect(read.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(readdirSync(folder)).toEqual(['baseline.json']);
    await writeBaseline(file, read.baseline);
    expect((await readBaseline(file)).digest).toBe(read.digest);
  });

  it('has a line for each row, metrics and tolerances by name, and few digits', () => {
    const text = baselineText(made(changed({ sqnr: dB(42.123456789) }), { sqnr: { absolute: 1 } }));
    expect(text).toContain('\n    "sqnr": { "value": 42.123, "unit": "dB", "better": "higher" },\n');
    expect(text).toContain('\n    { "step": 1, "branch": "cond", "sqnr": 40 },\n');
    const [first, second] = [text.indexOf('"psnr_drop"'), text.indexOf('"size_ratio"')];
    expect(first).toBeLessThan(second);
    const reversed = results({ metrics: Object.fromEntries(Object.entries(results().metrics).reverse()) });
    expect(baselineText(made(reversed))).toBe(baselineText(made()));
  });

  it('holds hostile prompts as one line of JSON', async () => {
    const file = path.join(await temporaryFolder(), 'baseline.json');
    await writeBaseline(file, made(results({ videos: [{ prompt: HOSTILE, seed: 1, psnr: 1, sqnr: 40 }] })));
    expect((await readBaseline(file)).baseline.videos).toHaveLength(1);
    expect(readFileSync(file, 'utf8')).not.toMatch(/[^\n\P{Cc}]/u);
  });

  const broken = (change: (file: Record<string, unknown>) => void): string => {
    const file = JSON.parse(baselineText(made()));
    change(file);
    return JSON.stringify(file);
  };

  it.each<[string, string, string]>([
    ['text', 'not JSON', 'is not JSON'],
    ['results', '{"schema":2,"metrics":{}}', 'is no baseline of wanq'],
    ['another version', '{"baseline":2}', 'is a baseline of version 2'],
    ['a version that has no text', '{"baseline":{"toString":1,"valueOf":1}}', 'is a baseline of version (an object)'],
    ['a version (a list)', '{"baseline":[{"toString":1}]}', 'is a baseline of version (a list)'],
    ['an unknown key', broken((file) => Object.assign(file, { tolerance: {} })), 'Unrecognized key: "tolerance"'],
    [
      'a negative tolerance',
      broken((file) => Object.assign(file, { tolerances: { sqnr: { absolute: -1 } } })),
      'tolerances.sqnr',
    ],
    [
      'a tolerance of two kinds',
      broken((file) => Object.assign(file, { tolerances: { sqnr: { absolute: 1, relative: 1 } } })),
      'tolerances.sqnr',
    ],
    ['settings with a part missing', broken((file) => Object.assign(file, { settings: {} })), 'settings.promptsDigest'],
    ['a figure in text', broken((file) => Object.assign(file, { metrics: { sqnr: { value: '9' } } })), 'metrics.sqnr'],
  ])('is refused where it is %s, and says where', async (_, content, where) => {
    const file = path.join(await temporaryFolder(), 'baseline.json');
    await writeFile(file, content);
    await expect(readBaseline(file)).rejects.toMatchObject({
      code: 'BASELINE_INVALID',
      message: expect.stringContaining(where),
    });
  });

  it('is refused where it is missing', async () => {
    await expectRejection(readBaseline('/nowhere/baseline.json'), 'NOT_FOUND');
  });
});

describe('compareBaseline', () => {
  it('passes the same results', () => {
    expect(compared(results())).toMatchObject({ passed: true, problems: [], notes: [] });
    expect(compared(results()).checks.map(({ metric }) => metric)).toEqual(Object.keys(made().metrics));
  });

  it.each<[string, number, boolean]>([
    ['sqnr', 42, true],
    ['sqnr', 41.99, false],
    ['sqnr_min', 35, true],
    ['sqnr_min', 34.99, false],
    ['psnr_drop', 0.29, true],
    ['psnr_drop', 0.31, false],
    ['size_ratio', 0.706, true],
    ['size_ratio', 0.708, false],
    ['psnr', 10, true],
    ['latency_ratio', 9, true],
  ])('takes %s of %d as no worse than before: %s', (metric, value, passed) => {
    const now = changed({ [metric]: { ...(results().metrics[metric] as JudgedMetric), value } });
    expect(compared(now).passed).toBe(passed);
    expect(failed(now)).toEqual(passed ? [] : [metric]);
  });

  it('takes tolerances of the file before its own', () => {
    const now = changed({ sqnr: dB(40) });
    expect(failed(now)).toEqual(['sqnr']);
    expect(failed(now, { ...made(), tolerances: { sqnr: { absolute: 3 } } })).toEqual([]);
    expect(failed(now, { ...made(), tolerances: { sqnr: { relative: 0.01 } } })).toEqual(['sqnr']);
    expect(failed(now, { ...made(), tolerances: { sqnr: 'off' } })).toEqual([]);
  });

  it('names tolerances that are not the default', () => {
    const of = (tolerances: Tolerances) => compared(results(), { ...made(), tolerances }).notes;
    expect(
      of({ sqnr: { absolute: 3 }, psnr_drop: 'off', sqnr_min: { absolute: 1 }, size_ratio: { relative: 0.5 } }),
    ).toEqual([
      'tolerance of sqnr: 3.000 dB; by default 0.500 dB',
      'tolerance of psnr_drop: not compared; by default 0.100 dB',
      'tolerance of size_ratio: 50 %; by default 1 %',
    ]);
  });

  it('says what got worse, by how much, and the linear, the step and the prompt that lost most', () => {
    const now = changed(
      { sqnr: dB(38), psnr_drop: dB(0.9, { better: 'lower' }) },
      {
        linears: [
          { linear: 'blocks.0.ffn.up', sqnr: 44, attainable: 46, excess: 2 },
          { linear: 'blocks.0.ffn.down', sqnr: 25, attainable: 43, excess: 18 },
        ],
        steps: results().steps.map((row) => (row.step === 0 && row.branch === 'uncond' ? { ...row, sqnr: 30 } : row)),
        videos: [
          { prompt: 'a', seed: 1000, psnr: 51, sqnr: Number.NaN },
          { prompt: 'b', seed: 1001, psnr: 49, sqnr: 30 },
        ],
        psnrDrop: results().psnrDrop.map((row) => ({ ...row, drop: row.clip === 1 ? 1.6 : row.drop })),
      },
    );
    const messages = compared(now).checks.flatMap(({ passed, message }) => (passed ? [] : [message]));
    const [linear, step] = [
      'linear blocks.0.ffn.down (40.000 dB -> 25.000 dB)',
      'step 1 uncond (44.000 dB -> 30.000 dB)',
    ];
    expect(messages).toEqual([
      `psnr_drop 0.200 dB -> 0.900 dB, 0.700 dB worse, tolerance 0.100 dB; lost most: ${linear}, ${step}, prompt "b" clip 1 (0.200 dB -> 1.600 dB)`,
      `sqnr 42.500 dB -> 38.000 dB, 4.500 dB worse, tolerance 0.500 dB; lost most: ${linear}, ${step}, prompt "a" seed 1000 (43.000 dB -> NaN dB)`,
    ]);
  });

  it('names of linears that were not quantized the one that is worst now', () => {
    const linears = (...ratios: number[]) =>
      ratios.map((sqnr, i) => ({ linear: `linear${i}`, sqnr, attainable: 40, excess: 0 }));
    const [exact, now] = [linears(...Array(3).fill(Number.POSITIVE_INFINITY)), linears(40, 20, 30)];
    const { checks } = compared(changed({ sqnr: dB(38) }, { linears: now }), made(results({ linears: exact })));
    expect(checks.find(({ passed }) => !passed)?.message).toContain('linear linear1 (Infinity dB -> 20.000 dB)');
  });

  it('names nothing that lost nothing', () => {
    const [message] = compared(changed({ sqnr: dB(38) })).checks.flatMap((row) => (row.passed ? [] : [row.message]));
    expect(message).toBe('sqnr 42.500 dB -> 38.000 dB, 4.500 dB worse, tolerance 0.500 dB');
  });

  it.each<[string, JudgedMetric | undefined, string]>([
    ['missing', undefined, 'it is missing'],
    ['not measured', dB(null), 'not measured'],
    ['not measured, for a reason', dB(null, { note: 'no clips' }), 'no clips'],
    ['taken over nothing', dB(42.5, { n: 0 }), 'not measured'],
    ['not a number', dB(Number.NaN), 'it is NaN'],
    ['infinitely bad', dB(Number.NEGATIVE_INFINITY), 'it is -Infinity'],
  ])('fails a metric that is %s now', (_, sqnr, why) => {
    const { sqnr: __, ...others } = results().metrics;
    const { passed, checks } = compared(results({ metrics: sqnr ? { ...others, sqnr } : others }));
    expect(passed).toBe(false);
    const message = checks.find(({ metric }) => metric === 'sqnr')?.message;
    expect(message).toBe(`sqnr was 42.500 dB and has no usable value now: ${why}`);
  });

  it('takes Infinity for perfect, and nothing less for as good', () => {
    const perfect = changed({ sqnr: dB(Number.POSITIVE_INFINITY) });
    expect(compared(perfect, made(perfect)).passed).toBe(true);
    expect(failed(results(), made(perfect))).toEqual(['sqnr']);
    expect(failed(results(), { ...made(perfect), tolerances: { sqnr: { relative: 1 } } })).toEqual(['sqnr']);
    expect(compared(perfect).passed).toBe(true);
  });

  it('tells of what got better by more than the tolerance, and of metrics it does not hold', () => {
    const { passed, notes } = compared(changed({ sqnr: dB(45), linear_excess: dB(2, { better: 'lower' }) }));
    expect(passed).toBe(true);
    expect(notes).toEqual([
      'sqnr 42.500 dB -> 45.000 dB, better by more than the tolerance: --update makes it the baseline',
      'linear_excess is not in the baseline: --update adds it',
    ]);
  });

  it('does not compare results of other settings, and names each that differs', () => {
    const { settings } = results();
    const { passed, checks, problems } = compared(
      results({
        settings: {
          ...settings,
          steps: 3,
          latents: [4, 9, 8, 8],
          negativePrompt: 'x\ny',
        },
      }),
    );
    expect({ passed, checks }).toEqual({ passed: false, checks: [] });
    expect(problems).toEqual([
      'not compared, for the settings are others: steps 2 -> 3; negativePrompt "" -> "x\\ny"; latents [4,5,8,8] -> [4,9,8,8]',
    ]);
  });

  it('does not compare results of another reference, or with fewer videos looked at', () => {
    const other = compared(results({ reference: { fingerprint: 'e'.repeat(64) } }));
    expect(other).toMatchObject({ passed: false, checks: [] });
    expect(other.problems[0]).toMatch(/the reference is another model: f+… -> e+…$/);
    const [video] = results().videos;
    expect(compared(results({ videos: [video as JudgedResults['videos'][number]] })).problems[0]).toContain(
      'inspected 2 -> 1',
    );
  });

  it('fails where there is nothing to compare', () => {
    const off = Object.fromEntries(Object.keys(made().metrics).map((name) => [name, 'off' as const]));
    const { passed, problems } = compared(results(), { ...made(), tolerances: off });
    expect({ passed, problems }).toEqual({ passed: false, problems: ['the baseline has no metric to compare'] });
    expect(compared(results(), { ...made(), metrics: {} }).passed).toBe(false);
  });

  it('fails a tolerance for which the baseline has no value', () => {
    const { passed, checks } = compared(results(), { ...made(), tolerances: { psnr: { absolute: 3 } } });
    expect(passed).toBe(false);
    expect(checks.at(-1)).toMatchObject({ metric: 'psnr', was: null, passed: false });
  });

  it('takes no metric from the prototype of a record', () => {
    expect(
      compared(results(), { ...made(), tolerances: { constructor: { absolute: 1 } } }).checks.at(-1),
    ).toMatchObject({
      ...{ metric: 'constructor', was: null, is: null, passed: false },
    });
  });
});

describe('baselineChanges', () => {
  it('are told metric by metric', () => {
    const after = made(changed({ sqnr: dB(45), linear_excess: dB(2, { better: 'lower' }) }), { size_ratio: 'off' });
    expect(baselineChanges(made(), after)).toEqual([
      'linear_excess: none -> 2.000 dB',
      'size_ratio: 0.700 x -> none',
      'sqnr: 42.500 dB -> 45.000 dB',
    ]);
    expect(baselineChanges(made(), made())).toEqual([]);
    expect(baselineChanges(undefined, made())).toHaveLength(4);
  });
});
