import { describe, expect, it } from 'vitest';
import { verdictText } from '../../../src/cli/ui/verdict.js';
import { type BaselineFile, baselineOf } from '../../../src/gate/baseline.js';
import { compareBaseline } from '../../../src/gate/compare.js';
import { judge, type Verdict, withBaseline } from '../../../src/gate/judge.js';
import type { Rule } from '../../../src/gate/rules.js';
import type { JudgedMetric, JudgedResults } from '../../../src/gate/subject.js';
import { annotations } from '../../../src/report/annotations.js';
import { jobSummary } from '../../../src/report/job-summary.js';
import { junitReport } from '../../../src/report/junit.js';
import type { Results } from '../../../src/report/results.js';
import { dB, HOSTILE, results } from '../gate/fixture.js';

const rules: readonly Rule[] = [
  { metric: 'psnr_drop', operator: '<=', limit: 3, level: 'error', line: 3 },
  { metric: 'sqnr', operator: '>=', limit: 50, level: 'error', line: 4 },
  { metric: 'sqnr_min', operator: '>=', limit: 50, level: 'warn', line: 5, aggregation: 'mean' },
];

const shown = (of: JudgedResults): Pick<Results, 'linears' | 'steps' | 'videos'> =>
  of as unknown as Pick<Results, 'linears' | 'steps' | 'videos'>;

const failing = judge(results().metrics, rules, { prompts: 2 });

/** A verdict and results in which every name is hostile. */
function hostile(): { verdict: Verdict; of: JudgedResults } {
  const metrics: Record<string, JudgedMetric> = { [HOSTILE]: dB(1), other: dB(null, { note: HOSTILE }) };
  const of = results({
    metrics: { ...metrics, sqnr: dB(10) },
    linears: [{ linear: HOSTILE, sqnr: 10, attainable: 40, excess: 30 }],
    steps: [{ step: 0, timestep: 1, branch: HOSTILE, sqnr: 1 }],
    videos: [{ prompt: HOSTILE, seed: 1, psnr: 1, sqnr: 1 }],
  });
  const before = results({
    metrics: { sqnr: dB(40) },
    ...{ linears: [{ linear: HOSTILE, sqnr: 40, attainable: 40, excess: 0 }] },
    ...{ steps: [{ step: 0, timestep: 1, branch: HOSTILE, sqnr: 40 }] },
    ...{ videos: [{ prompt: HOSTILE, seed: 1, psnr: 1, sqnr: 40 }] },
  });
  const baseline = baselineOf(before, { [HOSTILE]: { absolute: 1 } });
  if ('refused' in baseline) throw new Error(baseline.refused.join());
  const file: BaselineFile = { file: HOSTILE, digest: 'a'.repeat(64), baseline };
  const judged = judge(of.metrics, [
    { metric: HOSTILE, operator: '>=', limit: 10, level: 'error', line: 1 },
    { metric: 'other', operator: '>=', limit: 10, level: 'warn', line: 2 },
    { metric: `${HOSTILE}?`, operator: '>=', limit: 10, level: 'error' },
  ]);
  return { verdict: withBaseline(judged, compareBaseline(file, of)), of };
}

describe('the terminal', () => {
  it('has a line for each check, where to look first, and the verdict last', () => {
    expect(verdictText(failing, 'see there', results()).split('\n')).toEqual([
      'ok     psnr_drop = 0.200 dB, wanted <= 3',
      'FAILED sqnr = 42.500 dB, wanted >= 50',
      'warn   sqnr_min = 36.000 dB, wanted >= 50',
      expect.stringMatching(/^look first at linear blocks\.0\.ffn\.down: /),
      expect.stringMatching(/^worst step: 2 cond /),
      expect.stringMatching(/^worst prompt: "b" seed 1001: /),
      'gate failed: see there',
    ]);
  });

  it('blames nothing where the gate passed, and without results', () => {
    const passed = judge(results().metrics, rules.slice(0, 1));
    expect(verdictText(passed, 'see there', results())).toBe('ok     psnr_drop = 0.200 dB, wanted <= 3\ngate passed');
    expect(verdictText(failing)).toMatch(/wanted >= 50\ngate failed$/);
  });

  it('shows the baseline that was taken, and what is to be said of it', () => {
    const { verdict, of } = hostile();
    const lines = verdictText(verdict, undefined, of).split('\n');
    expect(lines.some((line) => line.startsWith('FAILED baseline: sqnr 40.000 dB -> 10.000 dB'))).toBe(true);
    expect(lines.some((line) => /^baseline .*\(SHA-256 a{12}\)$/.test(line))).toBe(true);
    expect(lines.some((line) => line.startsWith('note   tolerance of'))).toBe(true);
  });

  it('prints hostile text without control characters and commands of the runner', () => {
    const { verdict, of } = hostile();
    const text = verdictText(verdict, undefined, of);
    expect(text).not.toMatch(/[^\n\P{Cc}]/u);
    expect(text).not.toMatch(/^\s*::/m);
    expect(text).not.toContain('##[');
    // 3 rules, 2 of the baseline, its file, a tolerance, 3 to blame, the verdict.
    expect(text.split('\n')).toHaveLength(11);
  });
});

/** As GitHub's runner takes a line for a command (ActionCommand.TryParseV2). */
function commandOf(line: string): { name: string; properties: Record<string, string>; data: string } {
  const [, info = '', data = ''] = line.match(/^::(.*?)::(.*)$/s) ?? [];
  const space = info.indexOf(' ');
  const plain = (text: string): string =>
    text
      .replaceAll('%0D', '\r')
      .replaceAll('%0A', '\n')
      .replaceAll('%3A', ':')
      .replaceAll('%2C', ',')
      .replaceAll('%25', '%');
  const pairs = info
    .slice(space + 1)
    .split(',')
    .map((pair): [string, string] => [pair.slice(0, pair.indexOf('=')), plain(pair.slice(pair.indexOf('=') + 1))]);
  return { name: info.slice(0, space), properties: Object.fromEntries(pairs), data };
}

describe('annotations', () => {
  it('are an error for each check that failed and a warning for each that warns, where the rule stands', () => {
    expect(annotations(failing, { rules: 'ci/rules.json' })).toEqual([
      '::error title=wanq gate%3A sqnr >= 50,file=ci/rules.json,line=4::sqnr = 42.500 dB, wanted >= 50',
      '::warning title=wanq gate%3A sqnr_min >= 50,file=ci/rules.json,line=5::sqnr_min = 36.000 dB, wanted >= 50',
    ]);
    expect(annotations(failing)[0]).toBe('::error title=wanq gate%3A sqnr >= 50::sqnr = 42.500 dB, wanted >= 50');
  });

  it('point to the baseline for what got worse', () => {
    const { verdict } = hostile();
    const found = annotations(verdict, { rules: 'r.json', baseline: 'b:1,c.json' }).map(commandOf);
    expect(found.map(({ name, properties: { file, line } }) => [name, file, line])).toEqual([
      ['error', 'r.json', '1'],
      ['warning', 'r.json', '2'],
      ['error', undefined, undefined],
      ['error', 'b:1,c.json', undefined],
      ['error', 'b:1,c.json', undefined],
    ]);
  });

  it('keep hostile text where it belongs: one line, no further command or property', () => {
    const { verdict } = hostile();
    const lines = annotations(verdict, { rules: 'r.json', baseline: 'b.json' });
    expect(lines).toHaveLength(5);
    for (const line of lines) {
      expect(line).not.toMatch(/\p{Cc}/u);
      expect(line).not.toContain('##[');
      const { name, properties, data } = commandOf(line);
      expect(['error', 'warning']).toContain(name);
      for (const key of Object.keys(properties)) expect(['title', 'file', 'line']).toContain(key);
      expect(data).not.toMatch(/%(?!25)/);
    }
    const [first] = lines.map(commandOf);
    expect(first?.properties.title).toContain(':set-output name=a::b');
  });
});

/** The cases of a report. */
function xmlCases(text: string): { name: string; failure: string | undefined; output: string | undefined }[] {
  const plain = (value: string | undefined): string | undefined =>
    value
      ?.replaceAll('&lt;', '<')
      .replaceAll('&gt;', '>')
      .replaceAll('&quot;', '"')
      .replaceAll('&apos;', "'")
      .replaceAll('&amp;', '&');
  return [...text.matchAll(/<testcase ((?:[\w-]+="[^"<]*" ?)*)>(.*?)<\/testcase>/gs)].map(
    ([, attributes = '', inner = '']) => ({
      name: plain(attributes.match(/(?<!class)name="([^"<]*)"/)?.[1]) ?? '',
      failure: plain(inner.match(/<failure message="([^"<]*)"\/>/)?.[1]),
      output: inner.match(/<system-out>(.*)<\/system-out>/s)?.[1],
    }),
  );
}

describe('JUnit', () => {
  it('has a case for each check, with the failure as its message', () => {
    const text = junitReport(failing);
    expect(text).toMatch(/<testsuites tests="3" failures="1" errors="0" skipped="0">/);
    expect(xmlCases(text)).toMatchObject([
      { name: 'psnr_drop <= 3', failure: undefined },
      { name: 'sqnr >= 50', failure: 'sqnr = 42.500 dB, wanted >= 50' },
      { name: 'sqnr_min >= 50', failure: undefined, output: expect.stringContaining('warning: sqnr_min = 36') },
    ]);
  });

  it('fails where no rule is on', () => {
    expect(xmlCases(junitReport(judge({}, [])))).toMatchObject([
      { name: 'gate', failure: expect.stringContaining('no rule is on') },
    ]);
  });

  it('is XML whatever names hold', () => {
    const text = junitReport(hostile().verdict);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: those that XML 1.0 forbids
    expect(text).not.toMatch(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\uFFFE\uFFFF]|\p{Surrogate}/u);
    const cases = xmlCases(text);
    expect(cases).toHaveLength(6);
    expect(cases[0]?.name).toContain('<img src=x onerror=alert(1)>');
    // What is left when all elements of the report are taken away is no markup.
    const rest = text
      .replaceAll(/<!\[CDATA\[.*?\]\]>/gs, '')
      .replaceAll(/<\/?(testsuites|testsuite|testcase|failure|system-out)( [\w-]+="[^"<]*")*\/?>/g, '')
      .replace(/^<\?xml [^>]*>/, '');
    expect(rest).not.toMatch(/[<>]/);
    expect(rest).not.toMatch(/&(?!lt;|gt;|amp;|quot;|apos;|#)/);
  });
});

describe('the job summary', () => {
  it('has the verdict, the checks, and what is worst', () => {
    const lines = jobSummary(failing, shown(results())).split('\n');
    expect(lines[0]).toBe('## wanq gate failed');
    expect(lines).toContain('| ✅ | psnr_drop = 0.200 dB, wanted &#60;= 3 | rules |');
    expect(lines).toContain('| ❌ | sqnr = 42.500 dB, wanted &#62;= 50 | rules |');
    expect(lines).toContain('| ⚠️ | sqnr_min = 36.000 dB, wanted &#62;= 50 | rules |');
    expect(lines).toContain('| blocks.0.ffn.down | 3.000 dB | 40.000 dB | 43.000 dB |');
    expect(lines).toContain('| 2 cond | 500.5 | 40.000 dB |');
    expect(lines).toContain('| "b" seed 1001 | 42.000 dB | 49.000 dB |');
    expect(jobSummary(judge(results().metrics, rules.slice(0, 1)), shown(results()))).toMatch(/^## wanq gate passed\n/);
  });

  it('leaves out what was not measured', () => {
    expect(jobSummary(failing, { linears: [], steps: [], videos: [] })).not.toContain('###');
  });

  it('takes no markup from names', () => {
    const { verdict, of } = hostile();
    const text = jobSummary(verdict, shown(of));
    expect(text).not.toMatch(/[^\n\P{Cc}]/u);
    for (const line of text.split('\n').filter((found) => found.startsWith('| '))) {
      expect(line.match(/\|/g)?.length).toBeLessThanOrEqual(5);
    }
    const body = text.replaceAll(/^(\||- |#+ )|( \| ?)|---/gm, '');
    expect(body).not.toMatch(/[<>`*[\]\\~$@|]|:\/\//);
    // Every & begins a reference to a character, and every # is of one.
    expect(body).not.toMatch(/&(?!#\d+;)|(?<!&)#/);
  });
});
