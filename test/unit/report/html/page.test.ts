import { createHash } from 'node:crypto';
import { Script } from 'node:vm';
import { beforeAll, describe, expect, it } from 'vitest';
import { formatMetric } from '../../../../src/report/format.js';
import { htmlReport, type ReportInput } from '../../../../src/report/html/page.js';
import { DAMAGED, type SampleSize, sampleReport } from '../../../helpers/results.js';

const SIZE: SampleSize = { prompts: 7, steps: 6, blocks: 8, frames: 3, height: 16, width: 24 };

let input: ReportInput;
let page: string;

beforeAll(async () => {
  input = await sampleReport(SIZE);
  page = await htmlReport(input);
});

/** Texts that a page does not show. Pages are too long for the messages of assertions. */
const missing = (text: string, wanted: readonly string[]): string[] => wanted.filter((part) => !text.includes(part));

/** What a reader sees of a page. */
function textOf(markup: string): string {
  const characters: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', '#39': "'" };
  return markup
    .replace(/<(style|script)\b[\s\S]*?<\/\1>/g, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/&(lt|gt|amp|quot|#39);/g, (_, name: string) => characters[name] as string)
    .replace(/\s+/g, ' ');
}

const without = (changes: Partial<ReportInput['results']>): ReportInput => ({
  ...input,
  results: { ...input.results, ...changes },
});

describe('htmlReport', () => {
  it('has every section once, verdict first, and leads to each', () => {
    const ids = ['verdict', 'advice', 'figures', 'videos', 'curves', 'linears', 'histograms', 'cost', 'provenance'];
    expect([...page.matchAll(/<section id="([^"]+)"/g)].map(([, id]) => id)).toEqual(ids);
    expect([...page.matchAll(/<nav[\s\S]*?<\/nav>/g)].flatMap(([nav]) => nav.match(/#\w+/g))).toEqual(
      ids.map((id) => `#${id}`),
    );
  });

  it('uses each id once, and refers to none that is missing', () => {
    const ids = [...page.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const referred = [
      ...[...page.matchAll(/aria-labelledby="([^"]+)"/g)].flatMap(([, list]) => (list as string).split(' ')),
      ...[...page.matchAll(/(?:href="|url\()#([^")]+)/g)].map(([, id]) => id),
    ];
    expect(referred.filter((id) => !ids.includes(id))).toEqual([]);
  });

  it('goes from heading to heading without leaving out a level', () => {
    const levels = [...page.matchAll(/<h(\d)/g)].map(([, level]) => Number(level));
    expect(levels[0]).toBe(1);
    expect(levels.filter((level) => level === 1)).toHaveLength(1);
    for (const [i, level] of levels.entries()) expect(level - (levels[i - 1] ?? 0)).toBeLessThanOrEqual(1);
  });

  it('shows what the results hold', () => {
    const text = textOf(page);
    const { results, verdict } = input;
    const dB = (value: number | null): string => formatMetric({ value, unit: 'dB' });
    const wanted = [
      ...verdict.checks.map(({ message }) => message),
      ...Object.values(results.metrics).map(formatMetric),
      ...results.steps.map(({ sqnr }) => dB(sqnr)),
      ...results.linears.flatMap(({ linear, reason }) => [linear, reason as string]),
      ...results.videos.flatMap(({ psnr, ssim }) => [dB(psnr), formatMetric({ value: ssim, unit: '' })]),
      ...results.devices.flatMap(({ refused }) => refused.map(({ reason }) => reason)),
      ...[results.reference.fingerprint, results.settings.promptsDigest, results.platform, '3.61 .. 4.44 dB'],
      `wanq eval 'models/<wan> "fp32" & co' 'models/wan '\\''int8'\\''' --prompts eval.txt --gate`,
    ];
    expect(missing(text, wanted)).toEqual([]);
  });

  it('names the damaged linear, the worst step and the worst prompt of a model that failed', async () => {
    const blame = textOf(page.slice(page.indexOf('<dl class="blame"'), page.indexOf('<dl class="tiles"')));
    expect(blame).toContain(`Linear to blame first ${DAMAGED}`);
    const { steps, videos } = input.results;
    const worst = Math.min(...steps.map(({ sqnr }) => sqnr as number));
    expect(blame).toContain(`SQNR ${worst.toFixed(2)} dB`);
    const lowest = Math.min(...videos.map(({ sqnr }) => sqnr as number));
    expect(blame).toContain(`SQNR ${lowest.toFixed(2)} dB, PSNR`);
    const passed = await htmlReport({ ...input, verdict: { passed: true, checks: [] }, advice: undefined });
    expect(missing(passed, ['class="blame"', 'id="advice"'])).toHaveLength(2);
    expect(missing(textOf(passed), ['Passed: INT8 against reference'])).toEqual([]);
  });

  it("blames a linear whose scale is not the plan's before one that errs more", async () => {
    const linears = input.results.linears.map((row) =>
      row.linear === 'blocks.3.ffn.up' ? { ...row, scaleRatio: 4 } : row,
    );
    const other = await htmlReport(without({ linears }));
    const blame = textOf(other.slice(other.indexOf('<dl class="blame"'), other.indexOf('<dl class="tiles"')));
    expect(blame).toContain("Linear to blame first blocks.3.ffn.up : the scale of its input is 4 times the plan's; ");
    expect(other).toMatch(/data-value="4">! 4</);
  });

  it('lets no text of others become markup', () => {
    const text = textOf(page);
    const shown = [
      '</script><script>document.title = "owned"</script><!--',
      '"><img src=x onerror="document.title=\'owned\'">',
      'turned [U+202E] sdrawkcab [U+2066] and␇ rung, ␛[31mred␛[0m',
    ];
    expect(missing(text, shown)).toEqual([]);
    expect(page.includes('<!--')).toBe(false);
    expect(page.match(/<script/g)).toHaveLength(2);
    expect(/<img[^>]*src="?x/.test(page)).toBe(false);
    for (const tag of page.replace(/<(style|script)>[\s\S]*?<\/\1>/g, '').match(/<[a-z][^>]*>/g) ?? []) {
      expect(tag.replace(/"[^"]*"/g, '""')).not.toMatch(/\s(on\w+|style)=/);
    }
  });

  it('allows its own style and scripts by their hashes, and no request', () => {
    const policy = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(page)?.[1]?.replaceAll('&#39;', "'");
    const blocks = [...page.matchAll(/<(style|script)>([\s\S]*?)<\/\1>/g)];
    expect(blocks.map(([, name]) => name)).toEqual(['style', 'script', 'script']);
    for (const [, name, block] of blocks)
      if (name === 'script') expect(() => new Script(block as string)).not.toThrow();
    for (const [, , block] of blocks) {
      expect(policy).toContain(
        `'sha256-${createHash('sha256')
          .update(block as string)
          .digest('base64')}'`,
      );
    }
    expect(policy).toContain("default-src 'none'; img-src data:;");
    expect(policy).not.toContain('unsafe');
    expect(page.match(/(?:src|href)="(?!data:image\/(?:webp|png);base64,|#).{9}/g)).toBeNull();
    expect(page.match(/https?:\/\/.{9}/g)).toBeNull();
  });

  it('draws in the colours of the page alone', () => {
    const charts = page.match(/<svg class="chart"[\s\S]*?<\/svg>/g) ?? [];
    expect(charts.length).toBeGreaterThan(SIZE.prompts + 5);
    for (const chart of charts) {
      const colours = [...chart.matchAll(/(?:fill|stroke)="([^"]+)"/g)].map(([, colour]) => colour as string);
      expect(colours.filter((colour) => !/^(var\(--\w+\)|none|transparent|#000)$/.test(colour))).toEqual([]);
      expect(missing(chart, ['<style', 'zr0'])).toHaveLength(2);
    }
  });

  it('says so where nothing was measured', async () => {
    const bare = await htmlReport({
      ...without({
        metrics: {},
        steps: [],
        drift: [],
        psnrDrop: [],
        videos: [],
        linears: [],
        devices: [],
      }),
      verdict: { passed: false, checks: [], problems: ['the results are of <no> prompts'] },
      histograms: undefined,
      command: undefined,
    });
    const text = textOf(bare);
    const said = [
      'the results are of <no> prompts',
      'nothing tells where it went wrong',
      'No video was kept for inspection.',
      'Neither steps nor noise levels were measured.',
      'Linears were not measured one by one.',
      'No calibration file was given',
    ];
    expect(missing(text, said)).toEqual([]);
  });

  it('draws around figures that are infinite, not a number or not measured', async () => {
    const values = [Number.POSITIVE_INFINITY, Number.NaN, null, Number.NEGATIVE_INFINITY];
    const { steps, drift, videos, linears, psnrDrop } = input.results;
    const of = (i: number): number | null => values[i % values.length] as number | null;
    const odd = await htmlReport(
      without({
        steps: steps.map((row, i) => ({ ...row, sqnr: of(i), cosine: of(i) })),
        drift: drift.map((row, i) => ({ ...row, quantized: of(i), floor: of(i) })),
        psnrDrop: psnrDrop.map((row, i) => ({ ...row, drop: of(i) })),
        videos: videos.map((row, i) => ({
          ...row,
          psnr: of(i),
          framePsnr: (row.framePsnr ?? []).map((_, k) => of(k)),
        })),
        linears: linears.map((row, i) => ({ ...row, sqnr: of(i), attainable: of(i), excess: of(i) })),
      }),
    );
    for (const chart of odd.match(/<svg class="chart"[\s\S]*?<\/svg>/g) ?? []) {
      expect(chart.replace(/<desc[\s\S]*?<\/desc>/, '')).not.toMatch(/NaN|Infinity|undefined/);
    }
    expect(missing(textOf(odd), ['∞ dB'])).toEqual([]);
  });

  it('says of each picture what is to be seen in it', () => {
    const pictures = page.match(/<img [^>]*>/g) ?? [];
    expect(pictures).toHaveLength(3 * SIZE.prompts);
    for (const picture of pictures)
      expect(picture).toMatch(/alt="(Reference|Quantized|Difference × 8) of the clip: 3 frames as tiles, PSNR \d/);
  });

  it('shows components that changed', async () => {
    const facts = { fingerprint: 'a'.repeat(64), bytes: 11_400_000_000 };
    const { prompt, seed } = { prompt: 'a <b>', seed: 7 };
    const components = {
      changed: [{ component: 'text_encoder', reference: facts, quantized: { ...facts, bytes: 8_300_000_000 } }],
      embeddings: [{ prompt, sqnr: 45.125, cosine: 0.9999 }],
      videos: [{ prompt, seed, transformerPsnr: 50.5, vaePsnr: null, pipelinePsnr: 49.25, pipelineSsim: 0.998 }],
    };
    const text = textOf(await htmlReport(without({ components })));
    expect(missing(text, ['11.40 GB', '8.30 GB', '45.13 dB', '50.50 dB', '49.25 dB', 'a <b>'])).toEqual([]);
  });
});
