import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE, ROOT } from '../helpers/fixtures.js';

const place = new Workplace();
const sampling = [
  '--prompts',
  '--negative-prompt',
  '--steps',
  '--guidance',
  '--seed',
  '--frames',
  '--height',
  '--width',
];

const planning = [
  ...['--calibration', '--scheme', '--method', '--smooth', '--percentile', '--target', '--activations', '--keep'],
  ...['--float', '--plan'],
];

describe('--help', () => {
  it.each([
    ['import', ['--copy', '--timestep', '--components', '--output']],
    ['inspect', ['--roles', '--text', '--frames', '--height', '--width']],
    [
      'calibrate',
      [
        ...[...sampling, '--device', '--output', '--buckets', '--tokens', '--held-tokens'],
        ...['--embeddings', '--synthetic-inputs', '--shard', '--max-memory'],
      ],
    ],
    ['merge', ['--output']],
    ['sensitivity', [...sampling, '--device', '--output', ...planning, '--budget', '--samples', '--top', '--plot']],
    [
      'search',
      [
        ...[...sampling, '--device', '--output', ...planning, '--budget', '--samples', '--rules', '--sensitivity'],
        ...['--evaluations', '--cache', '--report', '--seeds-per-prompt', '--sigmas', '--clips', '--features'],
        ...['--inspected', '--device-reference', '--device-vae', '--perceptual', '--give-back'],
      ],
    ],
    [
      'quantize',
      [
        '--calibration',
        '--scheme',
        '--method',
        '--percentile',
        '--target',
        '--activations',
        '--keep',
        '--float',
        '--smooth',
        '--plan',
        '--save-plan',
        '--weights',
        '--text-encoder',
        '--vae',
        '--verify',
        '--link',
        '--dry-run',
        '--output',
      ],
    ],
    [
      'eval',
      [
        ...[...sampling, '--device', '--output', '--seeds-per-prompt', '--sigmas', '--clips', '--features'],
        ...[
          '--inspected',
          '--noise-floor',
          '--device-reference',
          '--gate',
          '--remedy',
          '--calibration',
          '--checkpoint',
        ],
        ...['--calibration-prompts', '--samples', '--evaluations', '--budget', '--give-back', '--perceptual'],
        ...['--device-vae', '--no-linears', '--weights', '--sensitivity', '--baseline', '--markdown', '--junit'],
      ],
    ],
    [
      'compare',
      [
        ...[...sampling, '--device', '--output', '--seeds-per-prompt', '--sigmas', '--clips', '--features'],
        ...['--perceptual', '--inspected', '--noise-floor', '--no-linears', '--device-reference', '--reference'],
        ...['--device-vae', '--rules'],
      ],
    ],
    ['check', ['--target', '--all']],
    ['doctor', []],
    ['gate', ['--rules', '--baseline', '--update', '--force', '--markdown', '--junit']],
    [
      'generate',
      [
        ...['--prompt', ...sampling.filter((option) => option !== '--prompts'), '--device', '--output', '--fps'],
        ...['--preview', '--preview-every', '--no-metadata'],
      ],
    ],
  ])('of %s lists its options', async (command, options) => {
    const { stdout, stderr } = await place.succeed([command, '--help']);
    expect(stderr).toBe('');
    const listed = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, option]) => option);
    expect(listed.sort()).toEqual([...options, '--help'].sort());
  });

  it('lists the commands, the options of all of them and the exit codes', async () => {
    const { stdout } = await place.succeed(['--help']);
    for (const word of [
      'import',
      'inspect',
      'calibrate',
      'quantize',
      'eval',
      'gate',
      'compare',
      'generate',
      'doctor',
      '--quiet',
      '--verbose',
      '--json',
    ]) {
      expect(stdout).toMatch(new RegExp(`^ +.*${word}`, 'm'));
    }
    expect(stdout).toContain('130 interrupted');
  });

  it('is shown on stderr with exit code 2 where no command was given', async () => {
    expect(await place.wanq([])).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^Usage: wanq/) });
  });
});

it('--version prints the version of package.json', async () => {
  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };
  expect((await place.succeed(['--version'])).stdout).toBe(`${version}\n`);
});

it.each<[string, Record<string, string>]>([
  ['without a terminal', {}],
  ['with NO_COLOR', { NO_COLOR: '1', TERM: 'xterm-256color' }],
])('prints no terminal escapes %s', async (_, env) => {
  for (const args of [
    ['--help'],
    ['inspect', MICRO_PIPELINE],
    ['quantize', MICRO_PIPELINE, '--dry-run'],
    ['nonsense'],
  ]) {
    const { stdout, stderr } = await place.wanq(args, env);
    expect((stdout + stderr).length).toBeGreaterThan(0);
    expect(stdout + stderr).not.toContain('\u001b');
  }
});
