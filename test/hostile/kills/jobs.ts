import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { figuresOf } from '../../helpers/figures.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { FEW_TOKENS, wanq } from '../faults/jobs.js';
import type { KilledJob } from './loop.js';

const SAMPLING = ['--guidance', '1', '--device', 'cpu'];

/**
 * Commands of a few seconds.
 * @param inputs a folder for what they read
 */
export async function makeKilledJobs(inputs: string): Promise<Map<string, KilledJob>> {
  const input = (name: string): string => path.join(inputs, name);
  mkdirSync(inputs, { recursive: true });
  const prompts = ['a red circle', 'a green ring', 'a blue square', 'a white diamond', 'a gray cross'];
  writeFileSync(input('prompts.txt'), prompts.join('\n'));
  const sampling = [MICRO_PIPELINE, '--prompts', input('prompts.txt'), ...SAMPLING];
  await wanq(['calibrate', ...sampling, '--steps', '1', ...FEW_TOKENS, '-q', '-o', input('calibration')]);
  const plain = ['--calibration', input('calibration'), '--method', 'minmax', '--smooth', 'none'];
  await wanq(['quantize', MICRO_PIPELINE, ...plain, '--link', '-q', '-o', input('quantized')]);
  const jobs: KilledJob[] = [
    {
      name: 'calibrate',
      args: ['calibrate', ...sampling, '--steps', '3', '-o', 'c'],
      outputs: ['c'],
      checkpoint: 'c.partial',
      resumed: /^took (\d+) prompts over/m,
    },
    {
      name: 'calibrate, briefly',
      args: ['calibrate', ...sampling, '--steps', '1', ...FEW_TOKENS, '-o', 'c'],
      outputs: ['c'],
      checkpoint: 'c.partial',
    },
    {
      name: 'quantize',
      args: ['quantize', MICRO_PIPELINE, ...plain, '--text-encoder', 'w8', '-o', 'q'],
      outputs: ['q'],
    },
    {
      name: 'sensitivity',
      args: ['sensitivity', ...sampling, '--steps', '2', ...plain, '--scheme', 'ffn', '--samples', '4', '-o', 's.json'],
      outputs: ['s.json'],
      checkpoint: 's.json',
    },
    {
      name: 'eval',
      args: [
        ...['eval', MICRO_PIPELINE, input('quantized'), '--prompts', input('prompts.txt'), ...SAMPLING, '--steps', '2'],
        ...['--inspected', '1', '--sigmas', '0.5', '--noise-floor', 'none', '-o', 'report'],
      ],
      outputs: ['report'],
      checkpoint: 'report.partial',
      digest: (folder) => JSON.stringify(figuresOf(folder)),
    },
  ];
  return new Map(jobs.map((job) => [job.name, job]));
}
