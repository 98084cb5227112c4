import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { compare } from '../../../src/compare/compare.js';
import { comparisonHtml } from '../../../src/report/compare-html.js';
import { comparisonMarkdown } from '../../../src/report/compare-markdown.js';
import { comparedCell, comparisonToJson, marksText, verdictCell } from '../../../src/report/comparison.js';
import { relativeUrl } from '../../../src/report/links.js';
import { HOSTILE } from '../../helpers/results.js';
import { HARD, modelReport, modelResults, plus, reportOf } from '../compare/fixture.js';

const good = modelReport('good', { bytes: 6e9, sqnr: plus(HARD, 1), drop: plus(HARD, -19) });
const close = modelReport('close', { bytes: 5e9, sqnr: plus(HARD, 0.8, 1.1), drop: plus(HARD, -18) });
const poor = modelReport('poor', { bytes: 5.5e9, sqnr: plus(HARD, -9), drop: plus(HARD, -10) });
const made = compare(
  [good, close, poor],
  [
    { metric: 'psnr_drop', operator: '<=', limit: 3, level: 'error' },
    { metric: 'fvd_growth', operator: '<', limit: 5, level: 'error' },
  ],
);

/** The same with names, folders and settings that would be markup if they could. */
function hostile(): ReturnType<typeof compare> {
  const reports = HOSTILE.map((text, i) => {
    const results = modelResults(String(i), { sqnr: plus(HARD, -i) });
    const settings = { ...results.settings, negativePrompt: HOSTILE[0], scheduler: HOSTILE[1], noiseFloor: HOSTILE[2] };
    return reportOf({
      ...results,
      settings,
      runtimeVersion: text,
      reference: { ...results.reference, path: HOSTILE[3] },
      quantized: { ...results.quantized, path: text.replaceAll('/', '\u2215'), provider: text },
    });
  });
  return compare(reports.map((report, i) => ({ ...report, page: `reports/${HOSTILE[i]}/report.html` })));
}

describe('cells', () => {
  const [a, b] = made.models;
  if (!a || !b) throw new Error('no models');

  it('have figures, what qualifies them, and marks', () => {
    expect(comparedCell(b, 'size_ratio')).toEqual({ mark: '*', text: '5.00 GB', detail: '0.25x' });
    expect(comparedCell(a, 'size_ratio')).toMatchObject({ mark: '', text: '6.00 GB' });
    expect(comparedCell(a, 'sqnr')).toMatchObject({ mark: '*', text: '36.00 dB' });
    expect(comparedCell(b, 'sqnr')).toMatchObject({ mark: '~', text: '35.95 dB' });
    expect(comparedCell(a, 'psnr')).toMatchObject({ detail: 'floor 52.20 dB' });
    expect(comparedCell(a, 'latency_ratio')).toMatchObject({ text: '0.79x', detail: '640.9 ms' });
    expect(comparedCell(a, 'fvd_growth')).toMatchObject({ text: '12.50 %', detail: '8.20 .. 17.90' });
    expect(verdictCell(a.verdict)).toMatchObject({ text: 'failed', detail: 'psnr_drop and 1 more' });
  });

  it('are told apart in the text of the marks, if anything is', () => {
    expect(marksText(made).join('\n')).toContain('~: not told apart from the best');
    const alone = compare([modelReport('a'), modelReport('b')]);
    expect(marksText(alone).join('\n')).not.toContain('~:');
  });
});

describe('comparisonMarkdown', () => {
  it('has a row for each model, differences, and links', () => {
    const text = comparisonMarkdown(made);
    expect(text).toMatch(/^\| ◆ good \| 6\.00 GB \(0\.30x\) \| \* 36\.00 dB \|/m);
    expect(text).toMatch(/^\| poor \|/m);
    expect(text).toMatch(/^\| SQNR \| close \| good \| -0\.05 dB \(-0\.\d\d \.\. 0\.\d\d\) \| 6 \| no \|$/m);
    expect(text).toMatch(/^\| SQNR \| poor \| good \| -10\.00 dB \(.+\) \| 6 \| yes \|$/m);
    expect(text).toContain('[report](./reports/good/report.html)');
  });

  it('keeps tables whole and has no markup of others', () => {
    const text = comparisonMarkdown(hostile());
    expect(text).not.toMatch(/<(?!=)[a-z/!]/i);
    for (const line of text.split('\n').filter((of) => of.startsWith('| '))) expect(line).toMatch(/\|$/);
  });
});

describe('comparisonHtml', () => {
  const page = comparisonHtml(made);

  it('has table, both charts, differences and links to each report', () => {
    expect([...page.matchAll(/<section id="(\w+)"/g)].map(([, id]) => id)).toEqual([
      ...['models', 'charts', 'differences', 'provenance'],
    ]);
    expect([...page.matchAll(/<svg class="chart" id="([\w-]+)"/g)].map(([, id]) => id)).toEqual([
      ...['chart-size', 'chart-steps'],
    ]);
    expect([...page.matchAll(/href="(\.\/[^"]+)"/g)].map(([, url]) => url)).toEqual([
      ...['good', 'close', 'poor'].map((name) => `./reports/${name}/report.html`),
    ]);
    expect(page).toContain('Model 1: 6.00 GB, 36.00 dB.');
    expect(page.match(/<strong>36\.00 dB<\/strong>/g)).toHaveLength(1);
  });

  it('uses each id once, and sorts by figures', () => {
    const ids = [...page.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(page).toContain('data-value="36"');
  });

  it('allows its own style and scripts alone', () => {
    const [, policy = ''] = page.match(/Content-Security-Policy" content="([^"]+)"/) ?? [];
    const blocks = [...page.matchAll(/<(style|script)>([\s\S]*?)<\/\1>/g)].map(([, , text]) => text as string);
    expect(blocks).toHaveLength(3);
    for (const text of blocks) {
      expect(policy).toContain(`sha256-${createHash('sha256').update(text).digest('base64')}`.replaceAll("'", '&#39;'));
    }
    expect(page).not.toMatch(/\son\w+="|style="|src="|url\(http/);
  });

  it('draws intervals, and the front apart from others', () => {
    const [chart = ''] = page.match(/<svg class="chart" id="chart-size"[\s\S]*?<\/svg>/) ?? [];
    expect(chart).toContain('>front<');
    expect(chart.match(/<text[^>]*>[123]<\/text>/g)).toHaveLength(3);
    const withIntervals = compare(
      [1, 2].map((i) =>
        modelReport(`m${i}`, {
          bytes: i * 1e9,
          metrics: {
            sqnr: {
              ...{ value: 30 + i, unit: 'dB', better: 'higher', n: 6 },
              interval: { low: 29 + i, high: 32 + i, level: 0.95, units: 6 },
            },
          },
        }),
      ),
    );
    const [drawn = ''] = comparisonHtml(withIntervals).match(/<svg class="chart" id="chart-size"[\s\S]*?<\/svg>/) ?? [];
    const lines = (text: string): number => text.match(/<(path|line|polyline)/g)?.length ?? 0;
    expect(lines(drawn)).toBeGreaterThan(lines(chart.replace(/<text[\s\S]*/, '')));
    expect(drawn).not.toMatch(/NaN|Infinity|undefined/);
  });

  it('shows names and paths of others as text, in charts too', () => {
    const bad = comparisonHtml(hostile());
    expect(bad).not.toMatch(/<(script|img|b)\b(?!>)/);
    expect(bad.match(/<script>/g)).toHaveLength(2);
    expect(bad).toContain('&lt;script&gt;');
    expect(bad).not.toMatch(/[\u202e\u2066]/);
    expect(bad.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
    const urls = [...bad.matchAll(/href="([^#"][^"]*)"/g)].map(([, url]) => url as string);
    expect(urls).toHaveLength(HOSTILE.length);
    for (const url of urls) expect(url).toMatch(/^\.\/reports\/[\w%.-]+(\/[\w%.-]+)*\/report\.html$/);
  });

  it('draws what is infinite or missing nowhere', () => {
    const none = compare([
      modelReport('a', { sqnr: new Array<number>(6).fill(Number.POSITIVE_INFINITY) }),
      reportOf({ ...modelResults('b'), steps: [] }),
      reportOf({ ...modelResults('c', { metrics: { sqnr: { value: null, unit: '', better: 'higher', n: 0 } } }) }),
    ]);
    const charts = comparisonHtml(none).match(/<svg class="chart"[\s\S]*?<\/svg>/g) ?? [];
    expect(charts).toHaveLength(2);
    expect(charts.join()).not.toMatch(/NaN|Infinity|undefined/);
    expect(charts[0]).toContain('2 without a finite SQNR are not drawn.');
  });
});

it('compare.json keeps what is infinite as text', () => {
  const perfect = modelReport('a', { sqnr: new Array<number>(6).fill(Number.POSITIVE_INFINITY) });
  const { models } = JSON.parse(comparisonToJson(compare([perfect, good])));
  expect(models[0].figures.sqnr).toMatchObject({ value: 'Infinity', standing: 'best' });
});

it.each([
  ['a/report.html', './a/report.html'],
  ['../b c/report.html', './../b%20c/report.html'],
  ['javascript:alert(1)', './javascript%3Aalert%281%29'],
  ['a"b<c>/\ud800', './a%22b%3Cc%3E/%EF%BF%BD'],
  ['/abs/report.html', undefined],
])('relativeUrl of %j', (file, url) => {
  expect(relativeUrl(file)).toBe(url);
});

it('search and comparison share what a front is', async () => {
  const { paretoFront } = await import('../../../src/report/front.js');
  const items = [
    [1, 1],
    [2, 3],
    [2, 2],
    [3, 3],
    [4, 5],
    [4, 5],
  ] as const;
  const front = paretoFront(
    items,
    ([cost]) => cost,
    ([, quality]) => quality,
  );
  expect(front).toEqual([items[0], items[1], items[4], items[5]]);
});
