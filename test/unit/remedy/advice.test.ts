import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Verdict } from '../../../src/gate/judge.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { type PlanFile, readPlan, writePlan } from '../../../src/quantize/plan-file.js';
import { type AdviceOptions, adviseOn, commandLine, commandsOf } from '../../../src/remedy/advice.js';
import { readFailing } from '../../../src/remedy/failing.js';
import { unmeasuredMetrics } from '../../../src/remedy/verdict.js';
import type { Advice } from '../../../src/report/ladder.js';
import { model, node } from '../helpers/graphs.js';
import { temporaryFolder } from '../helpers/temporary.js';

const PLAN: PlanFile = {
  ...{ schema: 1, model: 'fingerprint', target: 'ort-cpu', method: 'auto', smooth: 'auto', float: 'fp32' },
  linears: { up: { precision: 'int8', smooth: 0.5, low: -1, high: 1 } },
};

const failed = (...values: (number | null)[]): Verdict => ({
  passed: false,
  checks: values.map((value, i) => ({
    ...{ rule: { metric: `metric${i}`, operator: '>=', limit: 10, level: 'error' }, value, passed: false, message: '' },
  })),
});

/** A quantized pipeline in a temporary folder, and what is asked about it. */
async function quantizedBy(
  plan: PlanFile | undefined,
  metadata: Record<string, string>,
): Promise<{ options: AdviceOptions; folder: string }> {
  const folder = await temporaryFolder();
  const quantized = path.join(folder, 'int 8');
  await mkdir(path.join(quantized, 'transformer'), { recursive: true });
  const graph = model({ nodes: [node('Relu', ['x'], 'y')], inputs: ['x'], outputs: ['y'] });
  graph.metadata = new Map(Object.entries(metadata));
  await writeFile(path.join(quantized, 'transformer', 'model.onnx'), encodeModel(graph));
  if (plan) await writePlan(path.join(quantized, 'transformer', 'plan.json'), plan);
  const options: AdviceOptions = {
    ...{ reference: 'fp32', quantized, report: 'report', negativePrompt: '', giveBack: 0.25, rules: 'rules.json' },
    measuring: ['--prompts', 'prompts.txt', '--steps', '2'],
    evaluating: ['--noise-floor', 'none'],
  };
  return { options, folder };
}

async function advised(
  plan: PlanFile | undefined,
  metadata: Record<string, string>,
  verdict: Verdict = failed(5),
): Promise<Advice & { folder: string }> {
  const { options, folder } = await quantizedBy(plan, metadata);
  return { ...(await adviseOn(options, verdict, { folder, model: 'fingerprint', changed: ['text_encoder'] })), folder };
}

const BY_AUTO = { 'wanq.scheme': 'ffn', 'wanq.inputs': 'prompts' };
const names = ({ rungs }: Advice): string[] => rungs.map(({ name }) => name);

describe('adviseOn', () => {
  it('leaves out choosing anew what auto chose on a calibration', async () => {
    expect(names(await advised(PLAN, BY_AUTO))).toEqual(['layers', 'weights', 'qat']);
  });

  it.each<[string, PlanFile, Record<string, string>]>([
    ['a plan file may have prescribed it', PLAN, { ...BY_AUTO, 'wanq.scheme': 'plan' }],
    ['there was no calibration', PLAN, { 'wanq.scheme': 'ffn' }],
    ['it was not smoothed', { ...PLAN, smooth: 'none' }, BY_AUTO],
    ['ranges were chosen otherwise', { ...PLAN, method: 'kl' }, BY_AUTO],
  ])('chooses anew where %s', async (_, plan, metadata) => {
    const advice = await advised(plan, metadata);
    expect(names(advice)[0]).toBe('smooth');
    const written = await readPlan(path.join(advice.folder, 'plans', 'smooth.json'));
    expect(written).toMatchObject({ method: 'auto', smooth: 'auto', linears: { up: { precision: 'int8' } } });
  });

  it('gives commands with quoted paths, the options of the evaluation and of the other components', async () => {
    const { rungs, command, folder } = await advised(PLAN, BY_AUTO);
    const stem = `${folder}/int 8`;
    const [search, quantize] = rungs[0]?.commands ?? [];
    expect(search).toBe(
      `wanq search fp32 --plan '${stem}/transformer/plan.json' --calibration CALIBRATION --prompts prompts.txt --steps 2 ` +
        `--rules rules.json --give-back 25 -o '${stem}-layers.json'`,
    );
    expect(quantize).toBe(
      `wanq quantize fp32 --plan '${stem}-layers.json' --calibration CALIBRATION --text-encoder w8 -o '${stem}-layers'`,
    );
    expect(command).toBe(
      `wanq eval fp32 '${stem}' --prompts prompts.txt --steps 2 --noise-floor none -o report-again --gate rules.json --remedy '${stem}-remedied' ` +
        '--calibration CALIBRATION',
    );
  });

  it('says of a model without a plan that no remedy is known, and what helps in general', async () => {
    const advice = await advised(undefined, BY_AUTO);
    expect(advice).toMatchObject({ rungs: [], command: undefined });
    expect(advice.notes).toHaveLength(1);
    expect(advice.notes[0]).toMatch(
      /has no transformer\/plan\.json: another tool or an older wanq quantized it\. .*--keep/,
    );
    expect(existsSync(path.join(advice.folder, 'plans'))).toBe(false);
  });

  it('does not go by the plan of another model', async () => {
    const { notes, rungs } = await advised({ ...PLAN, model: 'other' }, BY_AUTO);
    expect(rungs).toEqual([]);
    expect(notes[0]).toContain('is of another model than fp32');
  });

  it('says that fine-tuned weights are left behind', async () => {
    const { notes } = await advised(PLAN, { ...BY_AUTO, 'wanq.weights': 'trained' });
    expect(notes[0]).toContain('starts from those of the reference');
  });

  it('advises nothing about what was not measured', async () => {
    const { notes, rungs } = await advised(PLAN, BY_AUTO, failed(null));
    expect(notes).toEqual([expect.stringContaining('metric0 was not measured')]);
    expect(rungs).toEqual([]);
  });

  it('advises beside what was not measured on what was', async () => {
    const { notes, rungs } = await advised(PLAN, BY_AUTO, failed(null, 5));
    expect(notes).toHaveLength(1);
    expect(rungs).toHaveLength(3);
  });
});

describe('commandsOf', () => {
  it('are of one rung, from the plan that is there', async () => {
    const { options } = await quantizedBy(PLAN, BY_AUTO);
    const failing = await readFailing(options.reference, options.quantized);
    const more = { ...options, checkpoint: 'ckpt', calibrationPrompts: 'cal.txt', negativePrompt: 'blurred' };
    const [tune, quantize] = commandsOf('qat', more, failing, { base: 'attempts/plan.json', changed: [] });
    expect(tune).toMatch(
      /^python3 \S*python\/qat\.py --checkpoint ckpt --plan attempts\/plan\.json --calibration CALIBRATION --prompts cal\.txt --negative-prompt blurred -o /,
    );
    expect(quantize).toContain("-qat.weights/plan.json' --weights '");
  });
});

describe('unmeasuredMetrics', () => {
  it('are those that fail the gate, not those that warn', () => {
    const { checks } = failed(null, 3, null);
    const [first, ...rest] = checks;
    const warned = { ...first, rule: { ...first?.rule, level: 'warn' } } as Verdict['checks'][number];
    expect(unmeasuredMetrics({ passed: false, checks: [warned, ...rest] })).toEqual(['metric2']);
  });
});

describe('commandLine', () => {
  it('quotes for a shell what it would not take as it is', () => {
    expect(commandLine(['wanq', 'eval', "it's here", '-o', 'a/b-1.json', '$x', ''])).toBe(
      "wanq eval 'it'\\''s here' -o a/b-1.json '$x' ''",
    );
  });
});
