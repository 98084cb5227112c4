import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import { loadModel } from '../../src/onnx/load.js';
import type { QuantPlan } from '../../src/quantize/plan.js';
import { PROMPTS, Workplace } from '../helpers/cli.js';
import { MICRO, MICRO_PIPELINE } from '../helpers/fixtures.js';
import { expectMistakeIn } from '../helpers/mistakes.js';

const place = new Workplace();
const short = ['--prompts', 'prompts.txt', '--steps', '1', '--guidance', '1'];
const calibrate = ['calibrate', MICRO_PIPELINE, ...short];
const quantize = ['quantize', MICRO_PIPELINE, '--calibration', 'calibration'];
const evaluate = ['eval', MICRO_PIPELINE, MICRO_PIPELINE, ...short];
const json = (name: string, value: unknown): string => place.write(name, JSON.stringify(value));

const expectMistake = (args: readonly string[], code: ErrorCode, exit: number, says: string): Promise<void> =>
  expectMistakeIn(place, args, code, exit, says);

afterEach(() => {
  rmSync(place.path('out'), { recursive: true, force: true });
});

/** A copy of the micro pipeline with one file of it changed. */
function pipelineWith(name: string, part: string, change: (file: string) => void): void {
  cpSync(MICRO_PIPELINE, place.path(name), { recursive: true });
  change(place.path(name, part));
}

beforeAll(async () => {
  place.write('prompts.txt', `${PROMPTS[0]}`);
  place.write('empty.txt', '# no prompt\n\n');
  mkdirSync(place.path('folder'));
  await place.succeed([...calibrate, '--device', 'cpu', '-o', 'calibration']);
  const calibration = readFileSync(place.path('calibration'));
  place.write('truncated', calibration.subarray(0, 100_000));

  const model = path.join('transformer', 'model.onnx');
  const { model: loaded, bytes, read, close } = await loadModel(path.join(MICRO_PIPELINE, model));
  const weight = [...loaded.graph.initializers.values()].find(({ elements }) => elements > 10_000);
  if (!weight) throw new Error('no weight');
  const changed = Buffer.from(bytes);
  const at = changed.indexOf(await read(weight));
  changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
  await close();
  pipelineWith('other', model, (file) => writeFileSync(file, changed));
  pipelineWith('damaged', model, (file) => truncateSync(file, 1_000_000));
  pipelineWith('ddim', 'scheduler/scheduler_config.json', (file) =>
    writeFileSync(file, readFileSync(file, 'utf8').replace('UniPCMultistepScheduler', 'DDIMScheduler')),
  );
  pipelineWith('scaleless', 'vae_decoder/config.json', (file) => writeFileSync(file, '{}'));

  json('results-1.json', { schema: 1 });
  json('results.json', { schema: 2, metrics: {} });
  place.write('not.json', '{"rules": [');
  json('operator.json', { rules: [{ metric: 'sqnr', operator: '==', limit: 10 }] });
}, 60_000);

describe('pipelines', () => {
  const rest = ['--prompts', 'prompts.txt', '-o', 'out'];
  it.each<[string, string[], ErrorCode, number, string]>([
    ['a path that is not there', ['calibrate', 'nowhere', ...rest], 'NOT_FOUND', 5, 'nowhere does not exist'],
    ['a second path that is not there', ['eval', MICRO_PIPELINE, 'nowhere', ...rest], 'NOT_FOUND', 5, 'nowhere'],
    ['a file', ['calibrate', 'prompts.txt', ...rest], 'NOT_A_PIPELINE', 3, 'is a file'],
    ['another folder', ['inspect', 'folder'], 'NOT_A_PIPELINE', 3, 'has no model_index.json'],
    ['a truncated model: calibrate', ['calibrate', 'damaged', ...rest], 'MODEL_INVALID', 3, 'damaged'],
    ['a truncated model: quantize', ['quantize', 'damaged', '--dry-run'], 'MODEL_INVALID', 3, 'download is complete'],
    ['a truncated model: eval', ['eval', MICRO_PIPELINE, 'damaged', ...rest], 'MODEL_INVALID', 3, 'damaged'],
    ['an unknown scheduler', ['calibrate', 'ddim', ...rest], 'SCHEDULER_UNSUPPORTED', 3, 'DDIMScheduler'],
    ['no latent statistics', ['calibrate', 'scaleless', ...rest], 'PIPELINE_INVALID', 3, 'latents_mean'],
  ])('refuses %s', (_, args, code, exit, says) => expectMistake(args, code, exit, says));
});

describe('arguments', () => {
  const dry = ['quantize', MICRO_PIPELINE, '--dry-run'];
  it.each<[string, string[], ErrorCode, number, string]>([
    ['an unknown command', ['clibrate'], 'USAGE', 2, 'Did you mean calibrate?'],
    ['an unknown option', [...calibrate, '-o', 'out', '--step', '3'], 'USAGE', 2, 'Did you mean --steps?'],
    ['a missing option', calibrate, 'USAGE', 2, '--output'],
    ['a missing argument', ['inspect'], 'USAGE', 2, 'pipeline'],
    ['an unknown scheme', [...dry, '--scheme', 'all'], 'USAGE', 2, 'ffn, blocks'],
    ['no steps', [...calibrate, '-o', 'out', '--steps', '0'], 'USAGE', 2, 'from 1 to 1000'],
    [
      'frames that cannot be encoded',
      [...calibrate, '-o', 'out', '--frames', '18'],
      'USAGE',
      2,
      'multiple of 4 plus 1',
    ],
    [
      'frames the VAE does not decode',
      [...evaluate, '-o', 'out', '--frames', '21'],
      'USAGE',
      2,
      'exported for one size',
    ],
    ['a glob that matches nothing', [...dry, '--keep', '*.fn.down'], 'PATTERN_UNMATCHED', 2, '.ffn.down'],
    ['an empty glob', [...dry, '--keep', ''], 'PATTERN_UNMATCHED', 2, 'no linear matches'],
  ])('refuses %s', (_, args, code, exit, says) => expectMistake(args, code, exit, says));
});

describe('prompts', () => {
  const rest = ['--steps', '1', '-o', 'out'];
  it.each<[string, string[], ErrorCode, number, string]>([
    [
      'an empty file',
      ['calibrate', MICRO_PIPELINE, '--prompts', 'empty.txt', ...rest],
      'PROMPTS_EMPTY',
      2,
      'empty.txt',
    ],
    [
      'a missing file',
      ['eval', 'folder', 'folder', '--prompts', 'none', ...rest],
      'NOT_FOUND',
      5,
      'none does not exist',
    ],
    ['a folder', ['calibrate', MICRO_PIPELINE, '--prompts', 'folder', ...rest], 'NOT_READABLE', 5, 'name a file'],
  ])('refuses %s', (_, args, code, exit, says) => expectMistake(args, code, exit, says));
});

describe('calibration files', () => {
  const by = (file: string): string[] => ['quantize', MICRO_PIPELINE, '--calibration', file, '-o', 'out'];
  const other = ['quantize', 'other', '--calibration', 'calibration', '-o', 'out'];
  it.each<[string, string[], ErrorCode, number, string]>([
    ['one of another model', other, 'CALIBRATION_MISMATCH', 2, 'another model'],
    ['safetensors of another kind', by(path.join(MICRO, 'clips.safetensors')), 'CALIBRATION_INVALID', 2, 'is not a'],
    ['a truncated one', by('truncated'), 'SAFETENSORS_INVALID', 3, 'length does not match'],
    ['no safetensors', by('prompts.txt'), 'SAFETENSORS_INVALID', 3, 'prompts.txt'],
    ['a missing one', by('none'), 'NOT_FOUND', 5, 'none does not exist'],
  ])('refuses %s', (_, args, code, exit, says) => expectMistake(args, code, exit, says));
});

describe('outputs', () => {
  it.each([
    ['calibrate', calibrate, 'calibration'],
    ['quantize', quantize, 'folder'],
    ['eval', evaluate, 'folder'],
  ])('%s never overwrites', (_, args, output) =>
    expectMistake([...args, '-o', output], 'OUTPUT_EXISTS', 2, `${output} exists already`),
  );

  it.each([
    ['calibrate', calibrate],
    ['quantize', quantize],
    ['eval', evaluate],
  ])('%s refuses a path below a file before it computes anything', (_, args) =>
    expectMistake([...args, '-o', 'prompts.txt/out'], 'NOT_FOUND', 5, 'prompts.txt/out'),
  );

  it.runIf(process.platform === 'linux').each([
    ['calibrate', calibrate],
    ['quantize', quantize],
    ['eval', evaluate],
  ])('%s refuses a place where nobody may write', (_, args) =>
    expectMistake([...args, '-o', '/proc/out'], 'NOT_WRITABLE', 5, '/proc/out'),
  );

  it.each([
    ['calibrate', calibrate],
    ['quantize', quantize],
    ['eval', evaluate],
  ])('%s refuses an empty path before it computes anything', async (_, args) => {
    const before = place.listing();
    const { code, stderr } = await place.wanq([...args, '-o', '']);
    expect(stderr).toMatch(/^wanq: .* \[(USAGE|NOT_FOUND|OUTPUT_EXISTS)\]\n$/);
    expect([2, 5]).toContain(code);
    expect(place.listing()).toEqual(before);
  });

  it('quantize writes a folder inside the pipeline, or refuses to', async () => {
    cpSync(MICRO_PIPELINE, place.path('outer'), { recursive: true });
    const before = place.listing();
    const outcome = await place.wanq(['quantize', 'outer', '--calibration', 'calibration', '-o', 'outer/int8']);
    expect(outcome.stderr).not.toContain('[INTERNAL]');
    if (outcome.code !== 0) expect(place.listing()).toEqual(before);
    else expect(place.listing()).not.toContain('work/outer/int8/int8');
  });
});

describe('things that eval needs late', () => {
  it.each<[string, string[], ErrorCode, number, string]>([
    ['clips', ['--clips', 'none'], 'NOT_FOUND', 5, 'none'],
    ['a feature network', ['--features', 'none'], 'NOT_FOUND', 5, 'none'],
  ])('misses %s before it runs a model', (_, args, code, exit, says) =>
    expectMistake([...evaluate, ...args, '-o', 'out'], code, exit, says),
  );
});

describe('devices', () => {
  it.runIf(process.platform === 'linux' && !existsSync('/dev/nvidiactl'))('says how to do without CUDA', () =>
    expectMistake([...calibrate, '--device', 'cuda', '-o', 'out'], 'PROVIDER_UNAVAILABLE', 4, '--device cpu'),
  );
});

describe('results and rules', () => {
  const by = (file: string): string[] => ['gate', 'results.json', '--rules', file];
  it.each<[string, string[], ErrorCode, number, string]>([
    ['results that are no JSON', ['gate', 'not.json'], 'RESULTS_INVALID', 2, 'not.json is not JSON'],
    ['results with a part missing', ['gate', 'results.json'], 'RESULTS_INVALID', 2, 'results.json: createdAt'],
    ['results of another schema', ['gate', 'results-1.json'], 'RESULTS_INVALID', 2, 'schema 1'],
    ['missing results', ['gate', 'none.json'], 'NOT_FOUND', 5, 'none.json'],
    ['rules that are no JSON', by('not.json'), 'RULES_INVALID', 2, 'not.json is not JSON'],
    ['rules with an unknown operator', by('operator.json'), 'RULES_INVALID', 2, 'rules.0.operator'],
    ['rules of eval', [...evaluate, '-o', 'out', '--gate', 'not.json'], 'RULES_INVALID', 2, 'not.json'],
  ])('refuses %s', (_, args, code, exit, says) => expectMistake(args, code, exit, says));
});

describe('wanq.config.json', () => {
  const configure = (value: unknown): string => json('wanq.config.json', value);
  const plan = async (...args: string[]): Promise<QuantPlan> =>
    JSON.parse((await place.succeed(['--json', 'quantize', MICRO_PIPELINE, '--dry-run', ...args])).stdout);
  // A provider that this platform's onnxruntime never has.
  const absent = process.platform === 'darwin' ? 'dml' : 'coreml';

  afterEach(() => rmSync(place.path('wanq.config.json'), { force: true }));

  it.each<[string, unknown, string]>([
    ['an option that is none', { calibrate: { bucketz: 3 } }, 'bucketz'],
    ['a command that is none', { calibrat: { buckets: 3 } }, 'calibrat'],
    ['a value that the flag would refuse', { calibrate: { buckets: 0 } }, 'calibrate.buckets'],
    ['a list where one value belongs', { calibrate: { buckets: [3] } }, 'calibrate.buckets'],
    ['a choice that is none', { calibrate: { device: 'abacus' } }, 'calibrate.device'],
  ])('may not hold %s', async (_, config, says) => {
    configure(config);
    await expectMistake([...calibrate, '-o', 'out'], 'CONFIG_INVALID', 2, says);
  });

  it('may not hold noise levels that the flag would refuse', async () => {
    configure({ eval: { sigmas: [0.5, 7] } });
    await expectMistake([...evaluate, '-o', 'out'], 'CONFIG_INVALID', 2, 'eval.sigmas');
  });

  it('must be JSON', async () => {
    place.write('wanq.config.json', '{');
    await expectMistake(quantize, 'CONFIG_INVALID', 2, 'wanq.config.json');
  });

  it('gives values to options, and flags go before it', async () => {
    configure({ quantize: { scheme: 'blocks', keep: ['blocks.0.*'], method: 'minmax' } });
    const { scheme, method, rows } = await plan();
    expect({ scheme, method }).toEqual({ scheme: 'blocks', method: 'minmax' });
    expect(rows.find(({ role }) => role === 'blocks.0.attn1.q')).toMatchObject({ decision: 'keep' });
    expect(rows.find(({ role }) => role === 'blocks.1.attn1.q')).toMatchObject({ decision: 'int8' });
    expect(await plan('--scheme', 'ffn')).toMatchObject({ scheme: 'ffn', method: 'minmax' });
  });

  it('takes one glob as text for an option that takes several', async () => {
    configure({ quantize: { keep: 'blocks.0.*' } });
    const { rows } = await plan();
    expect(rows.find(({ role }) => role === 'blocks.0.ffn.up')).toMatchObject({ decision: 'keep' });
  });

  it('gives way to the environment, which gives way to a flag', async () => {
    configure({ calibrate: { device: absent } });
    await expectMistake([...calibrate, '-o', 'out'], 'PROVIDER_UNAVAILABLE', 4, absent);
    await place.succeed([...calibrate, '-o', 'by-environment'], { WANQ_DEVICE: 'cpu' });
    await place.succeed([...calibrate, '-o', 'by-flag', '--device', 'cpu'], { WANQ_DEVICE: absent });
  });
});
