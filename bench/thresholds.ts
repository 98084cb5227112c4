/**
 * How the range of an activation is chosen, and smoothing: every method with and without it, on the micro pipeline, prompts and seeds that
 * calibration never saw.
 *
 *   npm run build && npx tsx bench/thresholds.ts [--prompts N]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { SharedReference } from '../src/evaluate/shared-reference.js';
import { RANGE_METHODS } from '../src/quantize/options.js';
import { calibrateMicro, evaluateMicro, MICRO_PIPELINE, metricOf, quantizeMicro } from './lib/micro.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({ options: { prompts: { type: 'string', default: '8' } } });
const work = await mkdtemp(path.join(tmpdir(), 'wanq-thresholds-'));
const shared = await SharedReference.open();
try {
  const calibration = await calibrateMicro(work, Number(values.prompts));
  const rows: Row[] = [];
  for (const scheme of ['ffn', 'blocks'] as const) {
    for (const target of ['tensorrt', 'ort-cpu'] as const) {
      for (const smooth of ['none', 0.5, 'auto'] as const) {
        for (const method of RANGE_METHODS) {
          const output = path.join(work, `${scheme}-${target}-${smooth}-${method}`);
          const { plan } = await quantizeMicro({ scheme, target, method, smooth, calibration, output });
          const clipped = plan.rows.flatMap(({ activation }) => activation?.clippedShare ?? []);
          const results = await evaluateMicro(output, MICRO_PIPELINE, true, shared);
          const row = {
            scheme,
            activations: target === 'tensorrt' ? 'S8' : 'U8',
            smooth: String(smooth),
            method,
            'SQNR dB': metricOf(results, 'sqnr'),
            'worst step dB': metricOf(results, 'sqnr_min'),
            'PSNR drop dB': Number(metricOf(results, 'psnr_drop').toFixed(3)),
            'worst drop dB': Number(metricOf(results, 'psnr_drop_max').toFixed(3)),
            'clipped ppm': (1e6 * clipped.reduce((sum, share) => sum + share, 0)) / clipped.length,
          };
          rows.push(row);
          console.error(Object.values(row).join(' '));
          await rm(output, { recursive: true });
        }
      }
    }
  }
  await report('thresholds', {
    title: 'Ranges and smoothing',
    command: `npx tsx bench/thresholds.ts --prompts ${values.prompts}`,
    rows,
    notes: [
      'SQNR: teacher-forced, mean over 20 steps, both branches and 4 prompts that calibration never saw.',
      'clipped: of the sampled values, mean over activations, parts per million.',
    ],
  });
} finally {
  await shared.close();
  await rm(work, { recursive: true, force: true });
}
