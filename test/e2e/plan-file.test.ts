import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
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

describe('the plan of a quantized pipeline', () => {
  it('is what was carried out, and not one that lay in the source', async () => {
    const source = place.path('source');
    cpSync(MICRO_PIPELINE, source, { recursive: true });
    writeFileSync(path.join(source, 'transformer', 'plan.json'), '{"stale": true}');
    const args = ['quantize', source, ...calibrated, '--plan', 'plan.json', '--save-plan', 'saved.json', '--link'];
    await place.succeed([...args, '-o', 'planned']);
    expect(plan('planned/transformer/plan.json')).toEqual(plan('saved.json'));
    expect(plan('saved.json')).toEqual(plan('plan.json'));
  });

  it('names its model without a calibration too', async () => {
    const weights = edited('weights.json', (made) => {
      made.linears = { 'blocks.0.ffn.up': { precision: 'int8-weights' } };
    });
    await place.succeed([...quantize, '--plan', weights, '-o', 'alone', '--link']);
    expect(plan('alone/transformer/plan.json').model).toBe(plan('plan.json').model);
  });
});

describe('quantize --save-plan', () => {
  it('never overwrites', () => {
    const args = [...calibrated, '--dry-run', '--save-plan', 'plan.json'];
    return expectMistake(args, 'OUTPUT_EXISTS', 'plan.json exists already');
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

  it('goes before the options of the configuration file', async () => {
    place.write(
      'wanq.config.json',
      JSON.stringify({ quantize: { scheme: 'blocks', keep: '*.ffn.down', float: 'fp16' } }),
    );
    try {
      const args = [...quantize, ...calibrated, '--dry-run', '--plan', 'plan.json', '--save-plan', 'configured.json'];
      await place.succeed(args);
      expect(plan('configured.json')).toEqual(plan('plan.json'));
      await expectMistake(
        [...calibrated, '--dry-run', '--plan', 'plan.json', '--scheme', 'ffn'],
        'USAGE',
        "'--scheme <name>'",
      );
    } finally {
      rmSync(place.path('wanq.config.json'));
    }
  });

  it('of the configuration file gives way to what the command line decides', async () => {
    place.write('wanq.config.json', JSON.stringify({ quantize: { plan: 'plan.json' } }));
    try {
      const { stdout } = await place.succeed(['--json', ...quantize, '--dry-run', '--scheme', 'blocks']);
      expect(JSON.parse(stdout)).toMatchObject({ scheme: 'blocks' });
    } finally {
      rmSync(place.path('wanq.config.json'));
    }
  });

  it('is refused where it quantizes what a convolution reads', () => {
    const name = edited('conv.json', ({ linears }) => {
      linears.patch_embedding = { precision: 'int8' };
    });
    const args = [...calibrated, '--plan', name, '-o', 'other'];
    return expectMistake(args, 'PLAN_INVALID', 'patch_embedding is a convolution');
  });

  it('needs the calibration that static ranges come from', () =>
    expectMistake(['--plan', 'plan.json', '-o', 'other'], 'USAGE', '--calibration is missing'));
});

describe('smoothing without a calibration', () => {
  const dynamic = ['--activations', 'dynamic', '--target', 'ort-cpu', '--link'];

  it('is left out where nobody asked for it, which is said', async () => {
    const { stderr } = await place.succeed([...quantize, ...dynamic, '-o', 'dynamic']);
    expect(stderr).toMatch(/^nothing is smoothed: --smooth needs --calibration$/m);
    expect(plan('dynamic/transformer/plan.json')).toMatchObject({ smooth: 'none' });
    // Its own plan asks for none, and is carried out as it is.
    const again = await place.succeed([
      ...quantize,
      '--plan',
      'dynamic/transformer/plan.json',
      '--link',
      '-o',
      'twice',
    ]);
    expect(again.stderr).not.toContain('nothing is smoothed');
  });

  it.each([['auto'], ['0.5']])('is refused where --smooth %s asks for it', (alpha) =>
    expectMistake([...dynamic, '--smooth', alpha, '-o', 'other'], 'USAGE', '--calibration is missing: blocks.0.ffn.up'),
  );

  it('is refused where a plan asks for it', () => {
    const name = edited('smoothed.json', (made) => {
      Object.assign(made, { target: 'ort-cpu', smooth: 'none' });
      made.linears = { 'blocks.1.ffn.up': { precision: 'int8-dynamic', smooth: 0.5 } };
    });
    return expectMistake(['--plan', name, '-o', 'other'], 'USAGE', 'blocks.1.ffn.up is to be smoothed');
  });
});
