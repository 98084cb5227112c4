import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { alive, childrenOf, type Running, until, Workplace } from '../helpers/cli.js';
import { figuresOf } from '../helpers/figures.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const prompts = ['a red circle', 'a green ring', 'a blue square', 'a white diamond'];
const calibrate = (output: string): string[] => [
  ...['calibrate', MICRO_PIPELINE, '--prompts', 'prompts.txt', '--steps', '4', '--device', 'cpu', '-o', output],
];
const quantize = (calibration: string, output: string): string[] => [
  ...['quantize', MICRO_PIPELINE, '--calibration', calibration, '-o', output],
];
const files = (start: string): string[] => readdirSync(place.path()).filter((name) => name.startsWith(start));
/** The temporary folder beside `output` that a command fills. */
const unfinished = (output: string): string | undefined =>
  files(`.${output}.`).find((name) => name.endsWith('.tmp') && !name.includes('.lock.'));
const onnxruntime = (running: Running): Promise<number[]> =>
  until(() => {
    const found = childrenOf(running.child);
    return found.length > 0 && found;
  });

/** Sends a signal, SIGINT to the whole process group as Ctrl-C does, and waits for the end. @returns ms until the process said so */
async function interrupt(running: Running, signal: 'SIGINT' | 'SIGKILL'): Promise<number> {
  const start = performance.now();
  if (signal === 'SIGINT') process.kill(-Number(running.child.pid), signal);
  else running.child.kill(signal);
  if (signal === 'SIGINT') await until(() => running.stderr().includes('interrupted: stopping'));
  const ms = performance.now() - start;
  await running.outcome;
  return ms;
}

beforeAll(async () => {
  place.write('prompts.txt', prompts.join('\n'));
  await place.succeed(calibrate('whole'));
}, 60_000);

// Windows has neither signal: kill() ends the process there.
describe.skipIf(process.platform === 'win32')('an interrupted', () => {
  it.each(['SIGINT', 'SIGKILL'] as const)('calibrate goes on after %s and ends with the same bytes', async (signal) => {
    const running = place.start(calibrate(signal), { group: true });
    await until(() => files(signal).includes(`${signal}.partial`));
    const workers = await onnxruntime(running);
    const ms = await interrupt(running, signal);
    const { code, stdout } = await running.outcome;
    expect([code, stdout]).toEqual([signal === 'SIGINT' ? 130 : null, '']);
    if (signal === 'SIGINT') expect(ms).toBeLessThan(1000);
    await until(() => alive(workers).length === 0, 5000);
    expect(place.listing().filter((line) => line.includes(signal))).toEqual([
      // Who is killed does not take its lock away.
      ...(signal === 'SIGKILL' ? [expect.stringContaining('work/.SIGKILL.lock ')] : []),
      expect.stringContaining(`work/${signal}.partial `),
    ]);

    const resumed = await place.succeed(calibrate(signal));
    expect(resumed.stderr).toMatch(/^took [123] prompts over from the checkpoint$/m);
    expect(readFileSync(place.path(signal)).equals(readFileSync(place.path('whole')))).toBe(true);
    expect(place.listing().filter((line) => line.includes(signal))).toHaveLength(1);
  });

  it('calibrate leaves a checkpoint that no other run takes, and that is no calibration yet', async () => {
    const running = place.start(calibrate('left'), { group: true });
    await until(() => files('left').includes('left.partial'));
    await interrupt(running, 'SIGINT');
    const checkpoint = readFileSync(place.path('left.partial'));

    const other = await place.wanq([...calibrate('left'), '--seed', '1']);
    expect(other.stderr).toMatch(/^wanq: left\.partial .*differs in seed.* \[CALIBRATION_MISMATCH\]\n$/);
    expect(other.code).toBe(2);
    expect(readFileSync(place.path('left.partial')).equals(checkpoint)).toBe(true);
    expect(files('left')).toEqual(['left.partial']);

    const early = await place.wanq(quantize('left.partial', 'early'));
    expect(early).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^wanq: .* \[CALIBRATION_\w+\]\n$/),
    });
  });

  it('quantize leaves nothing behind', async () => {
    const before = place.listing();
    const running = place.start(quantize('whole', 'out'), { group: true });
    await until(() => unfinished('out'));
    const workers = await onnxruntime(running);
    expect(await interrupt(running, 'SIGINT')).toBeLessThan(1000);
    const { code, stdout, stderr } = await running.outcome;
    expect([code, stdout]).toEqual([130, '']);
    expect(stderr).toMatch(/^wanq: .* \[INTERRUPTED\]\n$/m);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(alive(workers)).toEqual([]);
    expect(place.listing()).toEqual(before);
  });

  it('quantize that was killed leaves what the next one removes', async () => {
    const before = place.listing();
    const running = place.start(quantize('whole', 'killed'), { group: true });
    await until(() => unfinished('killed'));
    await interrupt(running, 'SIGKILL');
    expect(place.listing()).not.toEqual(before);
    await place.succeed(quantize('whole', 'killed'));
    expect(files('killed')).toEqual(['killed']);
    expect(files('.killed')).toEqual([]);
  });

  const evaluate = (output: string): string[] => [
    ...['eval', MICRO_PIPELINE, MICRO_PIPELINE, '--prompts', 'prompt.txt', '--steps', '2', '--sigmas', '0.5'],
    ...['--no-linears', '--noise-floor', 'none', '--device', 'cpu', '-o', output],
  ];

  it('eval goes on after SIGINT and SIGKILL and ends with the same figures', async () => {
    place.write('prompt.txt', 'a red circle');
    for (const [signal, least] of [
      ['SIGINT', 1],
      ['SIGKILL', 4],
    ] as const) {
      const running = place.start(evaluate('again'), { group: true });
      await until(() => steps('again') >= least);
      const workers = await onnxruntime(running);
      await interrupt(running, signal);
      const { code, stdout, stderr } = await running.outcome;
      expect([code, stdout]).toEqual([signal === 'SIGINT' ? 130 : null, '']);
      if (signal === 'SIGINT') expect(stderr).toContain('again.partial keeps what was finished');
      await until(() => alive(workers).length === 0, 5000);
    }
    const other = await place.wanq([...evaluate('again'), '--seed', '1']);
    expect(other.stderr).toMatch(/^wanq: again\.partial .* \(it differs in seed\).* \[CACHE_INVALID\]\n$/);
    const resumed = await place.succeed(evaluate('again'));
    expect(resumed.stderr).toMatch(/^took \d+ finished steps over from an interrupted evaluation$/m);
    await place.succeed(evaluate('whole-eval'));
    expect(figuresOf(place.path('again'))).toEqual(figuresOf(place.path('whole-eval')));
    expect(files('again')).toEqual(['again']);
    expect(files('.again')).toEqual([]);
  }, 120_000);

  /** Steps that an evaluation has finished. */
  function steps(output: string): number {
    const journal = place.path(`${output}.partial`, 'journal');
    return existsSync(journal) ? readdirSync(journal).filter((name) => name.endsWith('.step')).length : 0;
  }
});
