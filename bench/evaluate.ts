/**
 * What `wanq eval` takes beside the models' own runs, and whether its memory depends on the number of prompts: an INT8 micro pipeline, every video
 * inspected, with clips, features, noise floor, linears and the page.
 *
 *   npm run build && npx tsx bench/evaluate.ts [--prompts 5,20,40]
 */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readResults } from '../src/report/results.js';
import { measure } from './lib/measure.js';
import { calibrateMicro, MICRO, MICRO_PIPELINE, promptsOf, quantizeMicro } from './lib/micro.js';
import { ROOT } from './lib/paths.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({ options: { prompts: { type: 'string', default: '5,20,40' } } });
const work = await mkdtemp(path.join(tmpdir(), 'wanq-evaluate-'));
try {
  const calibration = await calibrateMicro(work, 2);
  const quantized = path.join(work, 'int8');
  await quantizeMicro({
    calibration,
    output: quantized,
    scheme: 'ffn',
    target: 'ort-cpu',
    method: 'auto',
    smooth: 'auto',
  });
  const rows: Row[] = [];
  for (const count of values.prompts.split(',').map(Number)) {
    const prompts = path.join(work, `${count}.txt`);
    await writeFile(prompts, (await promptsOf('eval', count)).join('\n'));
    const output = path.join(work, `report-${count}`);
    const { seconds, peakBytes } = await measure(process.execPath, [
      ...[path.join(ROOT, 'bin', 'wanq.js'), 'eval', MICRO_PIPELINE, quantized, '--prompts', prompts],
      ...[
        '--steps',
        '20',
        '--guidance',
        '3',
        '--inspected',
        String(count),
        '--calibration',
        calibration,
        '--device',
        'cpu',
      ],
      ...['--clips', path.join(MICRO, 'clips.safetensors'), '--features', path.join(MICRO, 'fvd'), '-o', output],
    ]);
    const { timing } = await readResults(path.join(output, 'results.json'));
    rows.push({
      prompts: count,
      'wall, s': seconds,
      'models, s': timing.modelMs / 1000,
      'beside them': `${(100 * (1 - timing.modelMs / 1000 / seconds)).toFixed(1)} %`,
      'peak of all processes, MB': Math.round(peakBytes / 1e6),
      'report.html, MB': (await stat(path.join(output, 'report.html'))).size / 1e6,
    });
    console.error(Object.values(rows.at(-1) as Row).join(' '));
  }
  await report('evaluate', {
    title: '`wanq eval` beside the models that it runs',
    command: `npx tsx bench/evaluate.ts --prompts ${values.prompts}`,
    rows,
  });
} finally {
  await rm(work, { recursive: true, force: true });
}
