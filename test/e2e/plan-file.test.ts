import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadGraph } from '../../src/onnx/load.js';
import type { PlanFile } from '../../src/quantize/plan-file.js';
import { PROMPTS, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const calibrated = ['--calibration', 'calibration'];
const quantize = ['quantize', MICRO_PIPELINE];
const plan = (name: string): PlanFile => JSON.parse(readFileSync(place.path(name), 'utf8'));

/** A plan file after a change. */
function edited(name: string, change: (plan: PlanFile) => unknown): string {
  const changed = plan('plan.json');
  change(changed);
  writeFileSync(place.path(name), JSON.stringify(changed, null, 2));
  return name;
}

/** Exactly one line that names the mistake, and nothing left behind. */
async function expectMistake(args: readonly string[], code: string, says: string): Promise<void> {
  const before = place.listing();
  const outcome = await place.wanq([...quantize, ...args]);
  expect(outcome.stderr).toMatch(new RegExp(`^wanq: .* \\[${code}\\]\\n$`));
  expect(outcome.stderr).toContain(says);
  expect(outcome).toMatchObject({ code: 2, stdout: '' });
  expect(place.listing()).toEqual(before);
}

beforeAll(async () => {
  place.write('prompts.txt', PROMPTS.join('\n'));
  const sampling = [
    '--prompts',
    'prompts.txt',
    '--steps',
    '2',
    '--guidance',
    '1',
    '--held-tokens',
    '64',
    '--device',
    'cpu',
  ];
  await place.succeed(['calibrate', MICRO_PIPELINE, ...sampling, '-o', 'calibration']);
  await place.succeed([...quantize, ...calibrated, '--dry-run', '--save-plan', 'plan.json', '--target', 'tensorrt']);
});

describe('quantize --dry-run --save-plan', () => {
  it('writes what was decided, and nothing else', () => {
    const { schema, model, target, method, smooth, linears } = plan('plan.json');
    expect({ schema, target, method, smooth }).toEqual({
      schema: 1,
      target: 'tensorrt',
      method: 'auto',
      smooth: 'auto',
    });
    expect(model).toMatch(/^[0-9a-f]{64}$/);
    expect(Object.keys(linears)).toEqual(
      [0, 1, 2, 3, 4, 5].flatMap((n) => [`blocks.${n}.ffn.up`, `blocks.${n}.ffn.down`]),
    );
    for (const entry of Object.values(linears)) {
      expect(entry).toMatchObject({ precision: 'int8', low: expect.any(Number), high: expect.any(Number) });
    }
    expect(place.listing().filter((line) => line.startsWith('work/'))).toHaveLength(3);
  });
});

describe('quantize --plan', () => {
  it('decides as it did before', async () => {
    await place.succeed([...quantize, ...calibrated, '--dry-run', '--plan', 'plan.json', '--save-plan', 'again.json']);
    expect(plan('again.json')).toEqual(plan('plan.json'));
  });

  it('does what was edited', async () => {
    const name = edited('edited.json', ({ linears }) => {
      delete linears['blocks.0.ffn.up'];
      linears['blocks.1.ffn.up'] = { precision: 'int8-weights' };
      linears['blocks.2.ffn.down'] = { precision: 'int8', smooth: 'none', low: -8, high: 8 };
      linears.proj_out = { precision: 'int8', smooth: 0.5 };
    });
    const { stdout } = await place.succeed([
      ...quantize,
      ...calibrated,
      '--plan',
      name,
      '-o',
      'out',
      '--link',
      '--json',
    ]);
    const { rows } = (JSON.parse(stdout) as { plan: { rows: Record<string, unknown>[] } }).plan;
    const rowOf = (role: string): unknown => rows.find((row) => row.role === role);
    expect(rowOf('blocks.0.ffn.up')).toMatchObject({ decision: 'keep', reason: 'not in the plan' });
    expect(rowOf('blocks.1.ffn.up')).toMatchObject({ decision: 'int8-weights', activation: null });
    expect(rowOf('blocks.2.ffn.down')).toMatchObject({ smoothing: null, activation: { low: -8, high: 8 } });
    expect(rowOf('proj_out')).toMatchObject({ decision: 'int8', smoothing: 0.5 });
    const { metadata, graph } = await loadGraph(place.path('out', 'transformer', 'model.onnx'));
    expect(metadata.get('wanq.scheme')).toBe('plan');
    const quantized = JSON.parse(metadata.get('wanq.quantized') ?? '') as string[];
    expect(quantized).toHaveLength(12);
    expect(quantized).toContain('proj_out');
    const scales = graph.nodes.filter(({ opType }) => opType === 'QuantizeLinear');
    expect(scales).toHaveLength(11);
  });

  it.each<[string, string[]]>([
    ['--scheme', ['blocks']],
    ['--target', ['ort-cpu']],
    ['--method', ['kl']],
    ['--smooth', ['0.5']],
    ['--float', ['fp16']],
    ['--activations', ['static']],
    ['--keep', ['*.ffn.down']],
  ])('is refused together with %s', (flag, values) =>
    expectMistake([...calibrated, '--plan', 'plan.json', '-o', 'other', flag, ...values], 'USAGE', flag),
  );

  it.each<[string, (plan: PlanFile) => unknown, string]>([
    [
      'a name that no linear has',
      ({ linears }) => (linears['blocks.0.ffn.upp'] = { precision: 'int8' }),
      'blocks.0.ffn.upp',
    ],
    [
      'an unknown precision',
      ({ linears }) => Object.assign(linears, { proj_out: { precision: 'int4' } }),
      'proj_out.precision',
    ],
    ['another model', (made) => Object.assign(made, { model: '0'.repeat(64) }), 'another model'],
    ['another schema', (made) => Object.assign(made, { schema: 2 }), 'schema'],
  ])('is refused with %s', (_, change, says) =>
    expectMistake([...calibrated, '--plan', edited('wrong.json', change), '-o', 'other'], 'PLAN_INVALID', says),
  );

  it('is refused where it is no JSON, before the model is read', () => {
    place.write('broken.json', '{');
    return expectMistake(['--plan', 'broken.json', '-o', 'other'], 'PLAN_INVALID', 'broken.json: it is not JSON');
  });

  it('needs the calibration that static ranges come from', () =>
    expectMistake(['--plan', 'plan.json', '-o', 'other'], 'USAGE', '--calibration is missing'));
});
