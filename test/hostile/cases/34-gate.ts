import { readFileSync } from 'node:fs';
import { type Results, resultsToJson } from '../../../src/report/results.js';
import { dB, results as fewResults, fullResults } from '../../unit/gate/fixture.js';
import { type Command, type Control, type End, type HostileCase, lettered, type Row } from '../lib/case.js';
import type { Place } from '../lib/place.js';
import { makeFifo } from '../lib/special.js';

type Made = Omit<HostileCase, 'id'>;

const RULES = '{ "rules": [{ "metric": "sqnr", "operator": ">=", "limit": 30 }] }';

const writeResults = (place: Place, change: Partial<Results> = {}): void => {
  const metrics = { ...fewResults().metrics, sqnr: dB(42.5) };
  place.write('r.json', resultsToJson(fullResults({ metrics, ...change })));
};

const gated: Control = {
  name: 'results',
  input: (place) => {
    writeResults(place);
    place.write('rules.json', RULES);
  },
};

const gate: Command = { args: ['gate', 'r.json', '--rules', 'rules.json'] };
const update: Command = { ...gate, args: [...gate.args, '--baseline', 'b.json', '--update'], outputs: ['b.json'] };
const held: Command = { ...gate, args: [...gate.args, '--baseline', 'b.json'], control: update };

/** Results changed as text. */
function changed(
  what: string,
  change: (json: string) => string,
  expected: readonly End[],
  more: Partial<Made> = {},
): Made {
  return {
    what: `results: ${what}`,
    input: async (place) => {
      await gated.input(place);
      place.write('r.json', change(readFileSync(place.path('r.json'), 'utf8')));
    },
    commands: [gate],
    expected,
    control: gated,
    ...more,
  };
}

const value =
  (to: string) =>
  (json: string): string => {
    const parsed = JSON.parse(json);
    parsed.metrics.sqnr.value = 'TO BE SET';
    return JSON.stringify(parsed).replace('"TO BE SET"', () => to);
  };
const without =
  (path: readonly string[]) =>
  (json: string): string => {
    const parsed = JSON.parse(json);
    // biome-ignore lint/suspicious/noExplicitAny: JSON that is damaged on purpose
    let at: any = parsed;
    for (const name of path.slice(0, -1)) at = at[name];
    delete at[path.at(-1) as string];
    return JSON.stringify(parsed);
  };
const assigned =
  (name: string, to: unknown) =>
  (json: string): string => {
    const parsed = JSON.parse(json);
    parsed.metrics.sqnr[name] = to;
    return JSON.stringify(parsed);
  };

const FAILS: readonly End[] = ['fails', 'RESULTS_INVALID'];

const VALUES: readonly Made[] = [
  changed('SQNR is "NaN"', value('"NaN"'), FAILS),
  changed('SQNR is "-Infinity"', value('"-Infinity"'), FAILS),
  changed('SQNR is "Infinity", as of identical outputs', value('"Infinity"'), ['ok']),
  changed('SQNR is null', value('null'), FAILS),
  changed('SQNR is 1e999', value('1e999'), ['ok', ...FAILS]),
  changed('SQNR is "42"', value('"42"'), FAILS),
  changed('SQNR is an object', value('{"valueOf":42}'), FAILS),
  changed('no SQNR', without(['metrics', 'sqnr']), FAILS),
  changed('no metrics', without(['metrics']), FAILS),
  changed('SQNR of no samples', assigned('n', 0), FAILS),
  changed('SQNR of -1 samples', assigned('n', -1), FAILS),
  changed('no prompts', (json) => json.replace(/"prompts": ?\d+/, '"prompts": 0'), ['ok', ...FAILS]),
  changed('another version', (json) => json.replace(/"schema": ?2/, '"schema": 1'), FAILS),
  changed(
    'a metric `__proto__`',
    (json) => json.replace(/"metrics": ?\{/, '"metrics":{"__proto__":{"value":99},'),
    FAILS,
  ),
  changed('cut in the middle', (json) => json.slice(0, json.length / 2), FAILS),
  changed('empty', () => '', FAILS),
  {
    ...changed('a FIFO', (json) => json, ['NOT_READABLE']),
    input: async (place) => {
      await gated.input(place);
      makeFifo(place.path('fifo'));
    },
    commands: [{ ...gate, args: gate.args.map((arg) => (arg === 'r.json' ? 'fifo' : arg)), control: gate }],
  },
];

const rules = (what: string, content: string, expected: readonly End[] = ['RULES_INVALID']): Made => ({
  what: `rules: ${what}`,
  input: async (place) => {
    await gated.input(place);
    place.write('rules.json', content);
  },
  commands: [gate],
  expected,
  control: gated,
});
const rule = (fields: string): string => `{"rules":[{"metric":"sqnr","operator":">=",${fields}}]}`;

const LIMITS: readonly Made[] = [
  rules('none', '{"rules":[]}'),
  rules('empty', ''),
  rules('a limit of "NaN"', rule('"limit":"NaN"')),
  rules('a limit of null', rule('"limit":null')),
  rules('a limit of 1e999', rule('"limit":1e999'), ['fails', 'RULES_INVALID']),
  rules('a limit of -1e999', rule('"limit":-1e999'), ['RULES_INVALID']),
  rules(
    'two rules of one metric',
    '{"rules":[{"metric":"sqnr","operator":">=","limit":30},{"metric":"sqnr","operator":">=","limit":0}]}',
  ),
  rules('an unknown field', rule('"limit":30,"skip":true')),
  rules('a metric that was not measured', '{"rules":[{"metric":"nothing","operator":">=","limit":0}]}', ['fails']),
  rules('a metric `__proto__`', '{"rules":[{"metric":"__proto__","operator":">=","limit":0}]}', ['fails']),
  rules('a metric `constructor`', '{"rules":[{"metric":"constructor","operator":">=","limit":0}]}', ['fails']),
  rules('a preset that is a path', '{"extends":"../../outside/secret"}'),
  rules('a preset `__proto__`', '{"extends":"__proto__"}'),
  rules('a level of its own', rule('"limit":99,"level":"ignore"')),
  rules('more samples than there are', rule('"limit":30,"minSamples":1000000'), ['fails']),
];

const baseline = (what: string, change: (json: string) => string, expected: readonly End[]): Made => ({
  what: `baseline: ${what}`,
  input: async (place) => {
    await gated.input(place);
    const { baselineOf, baselineText } = await import('../../../src/gate/baseline.js');
    const made = baselineOf(JSON.parse(readFileSync(place.path('r.json'), 'utf8')) as Results, {});
    if ('refused' in made) throw new Error(made.refused.join());
    place.write('b.json', change(baselineText(made)));
  },
  commands: [{ ...held, keeps: [] }],
  expected,
  control: gated,
});

const BROKEN: readonly End[] = ['BASELINE_INVALID', 'fails', 'COMPARE_MISMATCH'];

const BASELINES: readonly Made[] = [
  {
    ...baseline('is not there', (json) => json, ['NOT_FOUND']),
    input: gated.input,
  },
  baseline('as it was written', (json) => json, ['ok']),
  baseline('empty', () => '', BROKEN),
  baseline('of another version', (json) => json.replace('"baseline": 1', '"baseline": 2'), BROKEN),
  baseline('of another reference', (json) => json.replace(/"reference": "[^"]*"/, '"reference": "x"'), BROKEN),
  baseline('of other prompts', (json) => json.replace(/"promptsDigest": ?"[^"]*"/, '"promptsDigest": "x"'), BROKEN),
  baseline('without metrics', (json) => json.replace(/"metrics": \{[\s\S]*?\n {2}\}/, '"metrics": {}'), BROKEN),
  baseline('with better figures than these', (json) => json.replace(/("sqnr": ?\{ ?"value": ?)[\d.]+/, '$199'), [
    'fails',
  ]),
  baseline('with a figure of "NaN"', (json) => json.replace(/("sqnr": ?\{ ?"value": ?)[\d.]+/, '$1"NaN"'), BROKEN),
  baseline(
    'with a tolerance of 1e999',
    (json) => json.replace('"tolerances": {}', '"tolerances": {"sqnr":{"absolute":1e999}}'),
    ['ok', ...BROKEN],
  ),
  baseline(
    'with a tolerance of -1',
    (json) => json.replace('"tolerances": {}', '"tolerances": {"sqnr":{"absolute":-1}}'),
    BROKEN,
  ),
  baseline(
    'with every metric switched off',
    (json) => {
      const off = Object.fromEntries(Object.keys(JSON.parse(json).metrics).map((name) => [name, 'off']));
      return json.replace('"tolerances": {}', `"tolerances": ${JSON.stringify(off)}`);
    },
    BROKEN,
  ),
  baseline(
    'with a key `__proto__`',
    (json) => json.replace('"tolerances": {}', '"tolerances": {"__proto__":"off"}'),
    BROKEN,
  ),
];

/** Texts of others that come into logs, pages and comments. */
const NAMES: readonly (readonly [what: string, text: string])[] = [
  ['a command of the shell', '$(touch owned)`touch owned`;touch owned'],
  ['a command of a CI job', '::error file=x::owned'],
  ['a command of a CI job after a newline', 'a\n::set-output name=x::owned\n##[error]owned'],
  ['a percent sign of a CI job', 'a%0A::error::owned%0D'],
  ['colours of the terminal', '\u001b[31mred\u001b[0m\u0007\u009b1m'],
  ['a link and a picture of Markdown', '[x](javascript:alert(1)) ![y](https://example.com/?leak)'],
  ['a table and a mention of Markdown', '| a | b |\n|---|---|\n@everyone #1 `x`'],
  ['HTML', '</script><script>alert(1)</script><img src=x onerror=alert(1)>'],
  ['XML', ']]><system-out>x</system-out><!ENTITY a "b">&a;'],
  ['letters that turn the text', '\u202e\u2066x\u2069'],
  ['letters that nobody sees', 'a\u200b\ufeff\u2028\u0000b'],
  ['100,000 letters', 'x'.repeat(100_000)],
];

const all: Command = {
  args: [...gate.args, '--markdown', 'out.md', '--junit', 'out.xml'],
  outputs: ['out.md', 'out.xml', 'summary.md'],
  env: { GITHUB_ACTIONS: 'true', GITHUB_STEP_SUMMARY: 'summary.md', GITHUB_REF_NAME: '$(touch owned)`x`' },
  afterwards: (place) => {
    for (const name of ['out.md', 'out.xml', 'summary.md']) {
      const text = readFileSync(place.path(name), 'utf8');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
      if (/[\u0000-\u0008\u000b-\u001f\u202a-\u202e\u2066-\u2069]/.test(text))
        return `${name} holds control characters`;
      if (/<script|<img|<system-out>x<|<!ENTITY/i.test(text)) return `${name} holds HTML or XML of the input`;
      if (name.endsWith('.md') && /^::|\]\(javascript:|!\[y\]\(http/m.test(text))
        return `${name} holds commands or links of the input`;
    }
    return undefined;
  },
};
const page: Command = {
  args: ['compare', 'r.json', 's.json', '-o', 'out'],
  outputs: ['out'],
  afterwards: (place) => {
    const html = readFileSync(place.path('out', 'compare.html'), 'utf8');
    return /<script>alert|<img src=x|(href|src)="?javascript:/.test(html)
      ? 'compare.html holds HTML of the input'
      : undefined;
  },
};

const rule0 = (metric: string) => ({ metric, operator: '>=', limit: 30 });

const ofAnother = (results: Results): Results => ({
  ...results,
  quantized: { ...results.quantized, fingerprint: '1'.repeat(64) },
});

const named: Control = {
  name: 'named results',
  input: (place) => {
    writeResults(place);
    const same = JSON.parse(readFileSync(place.path('r.json'), 'utf8')) as Results;
    place.write('s.json', resultsToJson(ofAnother(same)));
    place.write('rules.json', RULES);
    place.write('summary.md', '');
  },
};

const NAMED: readonly Made[] = NAMES.map(([what, text]) => ({
  what: `prompts, linears, metrics and paths are ${what}`,
  input: async (place) => {
    const some = fullResults({ metrics: { ...fewResults().metrics, sqnr: dB(12) } });
    const hostile: Results = {
      ...some,
      metrics: { ...some.metrics, [text]: dB(1) } as Results['metrics'],
      reference: { ...some.reference, path: text },
      quantized: { ...some.quantized, path: text },
      settings: { ...some.settings, negativePrompt: text, clips: text, scheduler: text },
      videos: some.videos.map((video) => ({ ...video, prompt: text })),
      psnrDrop: some.psnrDrop.map((row) => ({ ...row, prompt: text })),
      linears: some.linears.map((row) => ({ ...row, linear: text })),
    };
    place.write('r.json', resultsToJson(hostile));
    place.write('s.json', resultsToJson(ofAnother(hostile)));
    place.write('rules.json', JSON.stringify({ rules: [rule0('sqnr'), rule0(text)] }));
    place.write('summary.md', '');
  },
  commands: [
    { ...all, expected: ['fails'], control: all },
    { ...page, expected: ['ok'], control: page },
  ],
  expected: [],
  control: named,
}));

export const GATE_ROWS: readonly Row[] = [
  ...lettered(34, [...VALUES, ...LIMITS, ...BASELINES]),
  ...lettered(35, NAMED),
];
