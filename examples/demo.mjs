// The whole job on the micro pipeline: calibrate, quantize, evaluate, gate. Writes reports/demo and starts afresh every time.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(fileURLToPath(new URL('..', import.meta.url)));
const inRoot = (...parts) => path.join(root, ...parts);
const micro = 'fixtures/micro-wan';
const out = 'reports/demo';
const sampling = ['--steps', '20', '--guidance', '3'];

rmSync(inRoot(out), { recursive: true, force: true });
const steps = [
  [
    'calibrate',
    `${micro}/pipeline`,
    '--prompts',
    'prompts/calibration.txt',
    ...sampling,
    '-o',
    `${out}/calibration.safetensors`,
  ],
  [
    ...['quantize', `${micro}/pipeline`, '--calibration', `${out}/calibration.safetensors`],
    ...['--scheme', 'ffn', '--target', 'ort-cpu', '-o', `${out}/wan-int8`],
  ],
  [
    ...['eval', `${micro}/pipeline`, `${out}/wan-int8`, '--prompts', 'prompts/eval.txt', ...sampling],
    ...['--clips', `${micro}/clips.safetensors`, '--features', `${micro}/fvd`, '-o', `${out}/eval`, '--gate'],
    ...['--calibration', `${out}/calibration.safetensors`],
  ],
];

for (const args of steps) {
  console.log(`\n$ wanq ${args.join(' ')}`);
  const { status } = spawnSync(process.execPath, [inRoot('bin', 'wanq.js'), ...args], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    process.exitCode = status ?? 1;
    break;
  }
}
