import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { alive, childrenOf, type Outcome, type Running, until, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';
import { digest } from './faults/loop.js';

const place = new Workplace();
const calibrate = (output: string): string[] => [
  ...['calibrate', MICRO_PIPELINE, '--prompts', 'prompts.txt', '--steps', '3', '--guidance', '1', '--device', 'cpu'],
  ...['-o', output],
];
const quantize = (output: string): string[] => [
  ...['quantize', MICRO_PIPELINE, '--calibration', 'whole', '--method', 'minmax', '--smooth', 'none', '--link'],
  ...['-o', output],
];
const ONE_LINE = /^wanq: .* \[[A-Z_]+\]$/m;

/** What a user sees of a failure: one line, no trace of the program. */
function expectOneLine({ stdout, stderr }: Outcome, code: RegExp): void {
  expect(stdout).toBe('');
  expect(stderr.match(/^wanq: /gm)).toHaveLength(1);
  expect(stderr).toMatch(ONE_LINE);
  expect(stderr).toMatch(code);
  expect(stderr).not.toMatch(/^\s+at |INTERNAL/m);
}

const names = (start: string): string[] => readdirSync(place.path()).filter((name) => name.includes(start));
const same = (output: string, as: string): void => expect(digest(place.path(output))).toBe(digest(place.path(as)));

beforeAll(async () => {
  place.write('prompts.txt', ['a red circle', 'a green ring', 'a blue square'].join('\n'));
  await place.succeed(calibrate('whole'));
  await place.succeed(quantize('quantized'));
}, 60_000);

describe('two at once on one output', () => {
  it.each([
    ['calibrate', calibrate, 'whole'],
    ['quantize', quantize, 'quantized'],
  ] as const)('%s: one writes it, the other says so', async (command, args, as) => {
    const outcomes = await Promise.all([1, 2].map(() => place.wanq(args(`two-${command}`))));
    expect(outcomes.filter(({ code }) => code === 0)).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.code !== 0) expectOneLine(outcome, /\[(LOCKED|OUTPUT_EXISTS)\]/);
    }
    same(`two-${command}`, as);
    expect(names(`two-${command}`)).toEqual([`two-${command}`]);
  });
});

describe.skipIf(process.platform === 'win32')('the runtime of a calibration', () => {
  const running = async (output: string): Promise<{ wanq: Running; runtime: number }> => {
    const wanq = place.start(calibrate(output), { env: { WANQ_RUNTIME_TIMEOUT: '5' } });
    await until(() => names(`${output}.partial`).includes(`${output}.partial`));
    const [runtime] = await until(() => {
      const found = childrenOf(wanq.child);
      return found.length > 0 && found;
    });
    return { wanq, runtime: runtime as number };
  };

  it.each(['SIGSEGV', 'SIGABRT', 'SIGKILL'] as const)('ends by %s: one line, the checkpoint stays', async (signal) => {
    const output = `by-${signal}`;
    const { wanq, runtime } = await running(output);
    process.kill(runtime, signal);
    const outcome = await wanq.outcome;
    expect(outcome.code).toBe(4);
    expectOneLine(outcome, new RegExp(`${signal}.*\\[RUNTIME_CRASHED\\]`));
    expect(alive([runtime])).toEqual([]);
    expect(names(output)).toEqual([`${output}.partial`]);
    expect((await place.succeed(calibrate(output))).stderr).toMatch(/^took [12] prompts over from the checkpoint$/m);
    same(output, 'whole');
  });
});

/** What a limit of address space leaves room for: Node alone wants tens of gigabytes of it, so the runtime gets what is left. */
const limits = process.platform === 'linux' && spawnSync('prlimit', ['--version']).status === 0;
if (!limits) console.warn('SKIPPED: no prlimit here, so memory was not limited');

describe.skipIf(!limits)('a runtime without memory', () => {
  it('ends in one line, and the checkpoint stays', async () => {
    const output = 'limited';
    const wanq = place.start(calibrate(output));
    await until(() => names(output).includes(`${output}.partial`));
    const [runtime] = await until(() => {
      const found = childrenOf(wanq.child);
      return found.length > 0 && found;
    });
    // Not a page more than it has: what it next asks for is refused.
    execFileSync('prlimit', ['--pid', String(runtime), '--as=1:1', '--data=1:1']);
    const outcome = await wanq.outcome;
    expect([4, 5]).toContain(outcome.code);
    expectOneLine(outcome, /\[(RUNTIME_\w+|NO_MEMORY)\]/);
    expect(names(output)).toEqual([`${output}.partial`]);
    await place.succeed(calibrate(output));
    same(output, 'whole');
  });
});

/** A disk of 4 MB, where the system lets one be mounted. */
function smallDisk(): string | undefined {
  const folder = place.path('small');
  mkdirSync(folder, { recursive: true });
  return spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', folder]).status === 0 ? folder : undefined;
}

describe('a disk that is full', () => {
  it('lets quantize say so and leave nothing', async () => {
    const disk = process.platform === 'linux' ? smallDisk() : undefined;
    if (disk === undefined) {
      console.warn('SKIPPED: no file system can be mounted here; the layer plays a full disk instead');
      const preload = fileURLToPath(new URL('./faults/preload.mjs', import.meta.url));
      const outcome = await place.wanq(quantize('full'), {
        NODE_OPTIONS: `--import ${preload}`,
        WANQ_FAULT: JSON.stringify({ kind: 'short', at: 3 }),
      });
      expect(outcome.code).toBe(5);
      expectOneLine(outcome, /\[NO_SPACE\]/);
      expect(names('full')).toEqual([]);
      return;
    }
    try {
      const outcome = await place.wanq(quantize('small/full'));
      expect(outcome.code).toBe(5);
      expectOneLine(outcome, /\[NO_SPACE\]/);
      expect(readdirSync(disk)).toEqual([]);
    } finally {
      spawnSync('umount', [disk]);
    }
  });
});

describe('a whole process over the layer', () => {
  const preload = fileURLToPath(new URL('./faults/preload.mjs', import.meta.url));
  const over = (fault: object): Record<string, string> => ({
    NODE_OPTIONS: `--import ${preload}`,
    WANQ_FAULT: JSON.stringify(fault),
  });

  it.each([20, 60])('is killed at file operation %i, and the next one makes the output', async (at) => {
    const output = `at-${at}`;
    const killed = place.start(quantize(output), { env: over({ kind: 'kill', at }) });
    await killed.outcome;
    expect(killed.child.signalCode).toBe('SIGKILL');
    expect(readdirSync(place.path())).not.toContain(output);
    await place.succeed(quantize(output));
    same(output, 'quantized');
    expect(names(output)).toEqual([output]);
  });
});
