import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { alive, type Outcome, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';
import { capturedIo } from '../helpers/io.js';
import { BRIEFLY, FEW_TOKENS, wanq } from './faults/jobs.js';
import { World } from './faults/layer.mjs';
import { digest } from './faults/loop.js';

const place = new Workplace();
const calibrate = (output: string): string[] => [
  ...['calibrate', MICRO_PIPELINE, '--prompts', place.path('prompts.txt'), ...BRIEFLY, ...FEW_TOKENS],
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

/** What of an output there is, and beside it. */
const names = (output: string): string[] => {
  const found = readdirSync(place.path()).filter((name) => name.includes(path.basename(output)));
  return found.map((name) => path.join(path.dirname(output), name));
};
const same = (output: string, as: string): void =>
  expect(digest(path.resolve(place.path(), output))).toBe(digest(place.path(as)));

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

/** Runs a calibration in this process, and does something to its runtime when that starts, or at the first checkpoint. */
async function disturbed(
  output: string,
  disturb: (runtime: number) => void,
  when: 'start' | 'checkpoint' = 'checkpoint',
): Promise<Outcome> {
  const world = new World();
  let runtime = 0;
  const meet = (): void => {
    if (runtime !== 0) return;
    runtime = [...world.children][0]?.pid as number;
    disturb(runtime);
  };
  world.onRename = async (file) => {
    if (file.endsWith('.partial')) meet();
  };
  if (when === 'start') world.onChild = meet;
  const { io, said } = capturedIo(() => place.path());
  const code = await world.run(() => main([...calibrate(output), '-q'], io));
  expect(runtime).not.toBe(0);
  expect(alive([runtime])).toEqual([]);
  return { code, ...said };
}

/** @param output a calibration that was disturbed: it has a checkpoint, and nothing else, and is gone on with */
async function expectGoesOn(output: string): Promise<void> {
  expect(names(output)).toEqual([`${output}.partial`]);
  await wanq([...calibrate(output), '-q']);
  same(output, 'whole');
  expect(names(output)).toEqual([output]);
}

describe.skipIf(process.platform === 'win32')('the runtime of a calibration', () => {
  it.each(['SIGSEGV'] as const)('ends by %s: one line, the checkpoint stays', async (signal) => {
    const output = place.path(`by-${signal}`);
    const outcome = await disturbed(output, (runtime) => process.kill(runtime, signal));
    expect(outcome.code).toBe(4);
    expectOneLine(outcome, new RegExp(`${signal}.*\\[RUNTIME_CRASHED\\]`));
    await expectGoesOn(output);
  });

  it('hangs: one line after the time limit, the checkpoint stays', async () => {
    const output = place.path('hung');
    process.env.WANQ_RUNTIME_TIMEOUT = '5';
    try {
      const outcome = await disturbed(output, (runtime) => process.kill(runtime, 'SIGSTOP'));
      expect(outcome.code).toBe(4);
      expectOneLine(outcome, /\[RUNTIME_TIMEOUT\]/);
    } finally {
      delete process.env.WANQ_RUNTIME_TIMEOUT;
    }
    await expectGoesOn(output);
  });
});

const DATA_BYTES = 100e6;

const limits = process.platform === 'linux' && spawnSync('prlimit', ['--version']).status === 0;
if (!limits) console.warn('SKIPPED: no prlimit here, so memory was not limited');

describe.skipIf(!limits)('a runtime without memory', () => {
  it('ends in one line, and the checkpoint stays', async () => {
    const output = place.path('limited');
    await disturbed(output, (runtime) => process.kill(runtime, 'SIGKILL'));
    const before = digest(`${output}.partial`);
    // Enough for Node, and not for onnxruntime and a model.
    const limit = (runtime: number): void =>
      void execFileSync('prlimit', ['--pid', String(runtime), `--data=${DATA_BYTES}`]);
    const outcome = await disturbed(output, limit, 'start');
    expect([4, 5]).toContain(outcome.code);
    expectOneLine(outcome, /\[(RUNTIME_\w+|NO_MEMORY)\]/);
    expect(digest(`${output}.partial`)).toBe(before);
    await expectGoesOn(output);
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

  it('is killed at a file operation, and the next one makes the output', async () => {
    const at = 60;
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
