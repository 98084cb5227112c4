/**
 * `wanq calibrate` beside plain inference of the same chains with onnxruntime-node: wall time, seconds a forward, and peak memory of the whole
 * process tree; then the same calibration in segments.
 *
 *   npm run build && npx tsx bench/calibrate.ts [--model FOLDER] [--prompts 2,20] [--steps 1] [--guidance 1] [--max-memory 2GB]
 *
 * One forward of a model that is larger than memory, inside a control group that allows no more (root, Linux):
 *
 *   npx tsx bench/calibrate.ts --model 5B-FOLDER --prompts 1 --skip-plain --limit 8GB --max-memory 6GB
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { byteCount } from '../src/cli/options.js';
import { makeFullShape } from './lib/full-shape.js';
import { limitMemory } from './lib/limit.js';
import { type Measured, measure } from './lib/measure.js';
import { ROOT } from './lib/paths.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    prompts: { type: 'string', default: '2,20' },
    steps: { type: 'string', default: '1' },
    guidance: { type: 'string', default: '1' },
    frames: { type: 'string', default: '13' },
    height: { type: 'string', default: '512' },
    width: { type: 'string', default: '512' },
    'max-memory': { type: 'string' },
    'skip-plain': { type: 'boolean', default: false },
    'skip-whole': { type: 'boolean', default: false },
    limit: { type: 'string' },
  },
});
const { steps, guidance, frames, height, width } = values;
const wanq = path.join(ROOT, 'bin', 'wanq.js');
const work = await mkdtemp(path.join(tmpdir(), 'wanq-bench-'));
const limit = values.limit === undefined ? undefined : limitMemory(byteCount(values.limit));
try {
  const model = values.model ?? (await makeFullShape('2-blocks-fp32', path.join(work, 'model'))).folder;
  const rows: Row[] = [];
  const run = (args: string[]): Promise<Measured> =>
    limit ? measure(...limit.inside(process.execPath, args)) : measure(process.execPath, args);
  const row = (name: string, prompts: number, measured: Measured, plain: Measured | undefined, more: Row): void => {
    const forwards = prompts * Number(steps) * (Number(guidance) > 1 ? 2 : 1);
    rows.push({
      run: name,
      prompts,
      forwards,
      'wall, s': measured.seconds,
      'of plain': plain ? measured.seconds / plain.seconds : null,
      'peak, MB': measured.peakBytes / 1e6,
      'more than plain, MB': plain ? (measured.peakBytes - plain.peakBytes) / 1e6 : null,
      'of it own, MB': measured.peakAnonBytes / 1e6,
      ...more,
    });
  };
  const files: Buffer[] = [];
  for (const prompts of values.prompts.split(',').map(Number)) {
    let plain: Measured | undefined;
    if (!values['skip-plain']) {
      const script = path.join(ROOT, 'bench', 'lib', 'plain-inference.mjs');
      plain = await run([script, model, String(prompts), steps, guidance, frames, height, width]);
      row('plain inference', prompts, plain, plain, { segments: 1, 'foreseen, MB': null });
    }
    const calibrate = async (name: string, more: string[]): Promise<void> => {
      const output = path.join(work, `${name}-${prompts}.safetensors`);
      const measured = await run([
        ...[wanq, '--json', 'calibrate', model, '--synthetic-inputs', String(prompts), '--steps', steps],
        ...['--guidance', guidance, '--frames', frames, '--height', height, '--width', width],
        ...['--device', 'cpu', '-o', output, ...more],
      ]);
      const { segments, estimatedBytes } = JSON.parse(measured.stdout) as { segments: number; estimatedBytes: number };
      row(name, prompts, measured, plain, { segments, 'foreseen, MB': estimatedBytes / 1e6 });
      files.push(await readFile(output));
    };
    if (!values['skip-whole']) await calibrate('wanq calibrate', []);
    const most = values['max-memory'];
    if (most !== undefined) await calibrate(`wanq calibrate --max-memory ${most}`, ['--max-memory', most]);
  }
  const tokens = ((Number(frames) - 1) / 4 + 1) * (Number(height) / 32) * (Number(width) / 32);
  const notes = [
    `${tokens} video tokens, 512 text tokens a forward. Plain inference is one process with onnxruntime-node's default options.`,
  ];
  if (limit) notes.push(`Inside a control group of ${values.limit}: more and the kernel would have killed it.`);
  if (values['max-memory'] !== undefined && !values['skip-whole']) {
    const equal = files.every((file, i) => i % 2 === 0 || file.equals(files[i - 1] as Buffer));
    if (!equal) throw new Error('the calibration in segments differs from the one in one piece');
    notes.push('The calibration files in segments and in one piece are equal, byte for byte.');
  }
  await report(`calibrate-${path.basename(values.model ?? '2-blocks-fp32')}`, {
    title: 'Calibration beside plain inference',
    command: `npx tsx bench/calibrate.ts ${process.argv.slice(2).join(' ')}`,
    rows,
    notes,
  });
} finally {
  limit?.remove();
  await rm(work, { recursive: true, force: true });
}
