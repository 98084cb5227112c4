import { describe, expect, it } from 'vitest';
import { judge } from '../../../src/gate/judge.js';
import type { Advice } from '../../../src/report/ladder.js';
import { markdownReport } from '../../../src/report/markdown.js';
import { COMPONENTS, LINEAR, results, VIDEO } from './fixture.js';

const passed = { passed: true, checks: [] };

/** Cells of a table row: split at every pipe that no backslash takes its meaning from. */
function cells(line: string): string[] {
  return line
    .replaceAll(/\\\\/g, '\0')
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim());
}

const video = (prompt: string) => results({ videos: [{ ...videoRow, prompt }] });
const videoRow = { ...VIDEO, strip: 'strips/0.png' };

function rowOf(prompt: string): string {
  const lines = markdownReport(video(prompt), passed).split('\n');
  const head = lines.findIndex((line) => line.startsWith('| prompt |'));
  return lines[head + 2] as string;
}

describe('the Markdown report', () => {
  it('says what the quantized model was calibrated on, and warns of random embeddings', () => {
    const { quantized } = results();
    const of = (calibratedOn: string) => markdownReport(results({ quantized: { ...quantized, calibratedOn } }), passed);
    expect(of('prompts')).toContain('| calibrated on | - | prompts |');
    expect(of('prompts')).not.toContain('random embeddings');
    expect(of('synthetic')).toContain('| calibrated on | - | synthetic |');
    expect(of('synthetic')).toContain('The quantized model was calibrated on random embeddings');
  });

  it('begins with the verdict and its checks', () => {
    const verdict = judge(results().metrics, [
      { metric: 'psnr_drop', operator: '<=', limit: 3, level: 'error' },
      { metric: 'psnr_drop', operator: '<=', limit: 0.1, level: 'warn' },
      { metric: 'fvd_growth', operator: '<', limit: 15, level: 'error' },
    ]);
    const [title, ...checks] = markdownReport(results(), verdict).split('\n');
    expect(title).toBe('# Failed: INT8 against reference');
    expect(checks.slice(0, 3)).toEqual([
      '- ✅ psnr_drop = 0.125 dB, wanted &lt;= 3',
      '- ⚠️ psnr_drop = 0.125 dB, wanted &lt;= 0.1',
      expect.stringMatching(/^- ❌ fvd_growth .*no features/),
    ]);
    expect(markdownReport(results(), passed)).toMatch(/^# Passed/);
  });

  it('shows every known metric, and those not measured as a dash', () => {
    const report = markdownReport(results(), passed);
    expect(report).toContain('| PSNR drop on re-noised clips (`psnr_drop`) | 0.13 dB | -0.50 .. 0.75 | 4 |  |');
    expect(report).toContain('| FVD growth (`fvd_growth`) | - |  | 0 | no features |');
    expect(report).toContain('| free-running PSNR, mean (`psnr`) | Infinity dB |  | 2 |  |');
  });

  it('says where each component ran, and what refused', () => {
    expect(markdownReport(results(), passed)).toContain(
      '| quantized transformer | auto | webgpu | cuda: no \\| library | 1.50 kB | - |',
    );
  });

  it('shows the linears that err most beyond rounding, and first those whose scale is not the plan’s', () => {
    const linears = [
      { ...LINEAR, linear: 'healthy' },
      { ...LINEAR, linear: 'off', scaleRatio: 4, excess: 0.5 },
      { ...LINEAR, linear: 'damaged', excess: 20, sqnr: 21 },
      { ...LINEAR, linear: 'untold', excess: null },
    ];
    const lines = markdownReport(results({ linears }), passed).split('\n');
    const head = lines.findIndex((line) => line.startsWith('| linear |'));
    expect(lines.slice(head + 2, head + 5).map((line) => cells(line)[0])).toEqual(['off', 'damaged', 'healthy']);
    expect(lines[head + 5]).not.toContain('untold');
    expect(markdownReport(results({ linears: [] }), passed)).not.toContain('| linear |');
  });

  it('shows what each component drifts alone, and all together', () => {
    const dB = (value: number) => ({ value, unit: 'dB', better: 'higher' as const, n: 2 });
    const metrics = {
      sqnr: dB(40),
      sqnr_min: dB(34),
      embedding_sqnr: dB(45),
      embedding_sqnr_min: dB(43),
      text_encoder_sqnr: dB(76),
      text_encoder_sqnr_min: dB(62),
      vae_decoder_psnr: dB(72.5),
      vae_decoder_psnr_min: dB(72),
      pipeline_sqnr: dB(39),
      pipeline_sqnr_min: dB(33),
      pipeline_psnr: dB(44.125),
    };
    const report = markdownReport(results({ metrics, components: COMPONENTS }), passed);
    const rows = report.split('\n').filter((line) => /alone \||^\| all together/.test(line));
    expect(rows.map(cells)).toEqual([
      ['text encoder alone', '11.40 GB -> 8.30 GB', '45.00 dB, worst 43.00 dB', '76.00 dB, worst 62.00 dB', '-'],
      ['transformer alone', '20.00 GB -> 5.00 GB', '-', '40.00 dB, worst 34.00 dB', '45.00 dB'],
      ['VAE decoder alone', '2.22 GB -> 1.11 GB', '-', '-', '72.50 dB, worst 72.00 dB'],
      ['all together', '', '-', '39.00 dB, worst 33.00 dB', '44.13 dB'],
      ['prompt', 'seed', 'transformer alone', 'VAE decoder alone', 'all together', 'SSIM, all together'],
    ]);
    expect(report).toContain('| a\\|b | 7 | 50.00 dB | 72.50 dB | 49.25 dB | 0.9980 |');
    expect(report).toContain('| c | 8 | 40.00 dB | - | 39.00 dB | 0.9900 |');
    expect(markdownReport(results(), passed)).not.toContain('## Components');
  });

  it('averages the drop over clips of one sigma', () => {
    const report = markdownReport(results(), passed);
    expect(report).toContain('| 0.25 | 41.00 dB | 39.00 dB | 2.00 dB |');
    expect(report).toContain('| 0.5 | Infinity dB | 30.00 dB | Infinity dB |');
  });

  it.each([
    ['a | b', 'a \\| b'],
    ['<script>alert(1)</script>', '&lt;script>alert(1)&lt;/script>'],
    ['![seen](https://example.org/x.png)', '!\\[seen](https://example.org/x.png)'],
    ['<!-- --> &lt;', '&lt;!-- --> &amp;lt;'],
    ['two\r\nlines\n\nmore', 'two lines more'],
  ])('escapes the prompt %j', (prompt, shown) => {
    expect(cells(rowOf(prompt))[0]).toBe(shown);
    expect(cells(rowOf(prompt))).toHaveLength(6);
    expect(markdownReport(video(prompt), passed)).toContain(`**${shown}**`);
  });

  it('shows in a prompt what is not seen', () => {
    const report = markdownReport(video('\u001b[31mred\u202e'), passed);
    expect(report).toContain('**[31mred\\\\u202e**');
    for (const raw of ['\u001b', '\u202e']) expect(report).not.toContain(raw);
  });

  it('escapes a backslash before a pipe', () => {
    expect(cells(rowOf('a\\|b'))).toHaveLength(6);
  });

  it('escapes paths and notes', () => {
    const base = results();
    const report = markdownReport(
      results({
        reference: { ...base.reference, path: 'a|<b>' },
        metrics: { psnr: { value: 1, unit: 'dB', better: null, n: 1, note: '<img src=x>|' } },
      }),
      passed,
    );
    expect(report).toContain('| folder | a\\|&lt;b> | models/int8 |');
    expect(report).toContain('| &lt;img src=x>\\| |');
    expect(report).not.toMatch(/<(img|b)\b/);
  });

  it('links strips, and none where there is none', () => {
    expect(markdownReport(video('a'), passed)).toContain('](strips/0.png)');
    expect(markdownReport(results(), passed)).not.toContain('](');
  });
});

describe('advice in the report', () => {
  const advice: Advice = {
    notes: ['sqnr <was> *not* measured'],
    rungs: [{ name: 'smooth', does: 'ranges anew', costs: 'nothing', commands: ["wanq quantize 'a\nb' -o c"] }],
    command: 'wanq eval a b',
  };

  it('is a numbered list of what each does and costs, with commands of one line', () => {
    const lines = markdownReport(results(), passed, advice).split('\n');
    expect(lines).toContain('## What may mend it');
    expect(lines).toContain('sqnr &lt;was> \\*not\\* measured');
    expect(lines).toContain('1. **smooth**: ranges anew. Costs: nothing.');
    expect(lines).toContain("   wanq quantize 'a b' -o c");
    expect(lines).toContain('wanq eval a b');
  });

  it('is not there where nothing is advised', () => {
    expect(markdownReport(results(), passed)).not.toContain('What may mend it');
  });
});
