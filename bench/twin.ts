/**
 * The micro pipeline beside its outlier twin, which computes the same with a few channels 30 to 60 times as large: plain min-max, and smoothing and
 * ranges by what errs least; prompts and seeds that calibration never saw.
 *
 *   npm run build && npx tsx bench/twin.ts [--prompts N]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeOutlierTwin } from '../fixtures/outlier-twin/twin.js';
import { SharedReference } from '../src/evaluate/shared-reference.js';
import { calibrateMicro, evaluateMicro, MICRO_PIPELINE, metricOf, quantizeMicro } from './lib/micro.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({ options: { prompts: { type: 'string', default: '8' } } });
const work = await mkdtemp(path.join(tmpdir(), 'wanq-twin-'));
const references = new Map<string, SharedReference>();
try {
  const twin = path.join(work, 'twin');
  await writeOutlierTwin(MICRO_PIPELINE, twin, { link: true });
  const models = [
    ['micro', MICRO_PIPELINE],
    ['twin', twin],
  ] as const;
  const calibrations = new Map<string, string>();
  for (const [name, pipeline] of models) {
    const folder = await mkdtemp(path.join(work, name));
    calibrations.set(name, await calibrateMicro(folder, Number(values.prompts), pipeline));
    references.set(name, await SharedReference.open());
  }
  const rows: Row[] = [];
  for (const scheme of ['ffn', 'blocks'] as const) {
    for (const target of ['tensorrt', 'ort-cpu'] as const) {
      for (const [method, smooth] of [
        ['minmax', 'none'],
        ['auto', 'auto'],
      ] as const) {
        const measured = [];
        for (const [name, pipeline] of models) {
          const output = path.join(work, [name, scheme, target, method].join('-'));
          const calibration = calibrations.get(name) as string;
          await quantizeMicro({ pipeline, scheme, target, method, smooth, calibration, output });
          measured.push(await evaluateMicro(output, pipeline, true, references.get(name)));
          await rm(output, { recursive: true });
        }
        const [micro, outliers] = measured.map((results) => metricOf(results, 'sqnr')) as [number, number];
        const row = {
          scheme,
          activations: target === 'tensorrt' ? 'S8' : 'U8',
          ranges: method,
          smoothing: smooth,
          'micro, SQNR dB': micro,
          'twin, SQNR dB': outliers,
          'twin loses, dB': micro - outliers,
        };
        rows.push(row);
        console.error(Object.values(row).join(' '));
      }
    }
  }
  await report('twin', {
    title: 'Outliers',
    command: `npx tsx bench/twin.ts --prompts ${values.prompts}`,
    rows,
    notes: ['Each quantized model against its own unquantized one; 20 steps, both branches, 4 prompts.'],
  });
} finally {
  for (const reference of references.values()) await reference.close();
  await rm(work, { recursive: true, force: true });
}
