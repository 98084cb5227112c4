/**
 * Size of report.html, how long a browser takes to open it, and what making it takes: 20 prompts of the micro pipeline's size and of the 5B's, whose
 * pictures are made once and used for all. Figures are those of test/helpers/results.ts, of 307 linears and 50 steps. Needs Chromium on PATH.
 *
 *   npx tsx bench/report.ts
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { htmlReport } from '../src/report/html/page.js';
import { makeSheets, PAGE_SHEETS_BYTES, type SheetPictures } from '../src/report/sheets.js';
import { Browser, findBrowser } from '../test/helpers/browser.js';
import { SAMPLE, type SampleSize, sampleReport, sampleVideos } from '../test/helpers/results.js';
import { median } from './lib/measure.js';
import { type Row, report } from './lib/report.js';

const RUNS = 5;

const SIZES: readonly (readonly [string, SampleSize])[] = [
  ['17 x 128 x 128', SAMPLE],
  ['121 x 704 x 1280', { ...SAMPLE, frames: 121, height: 704, width: 1280 }],
];

const file = findBrowser();
if (!file) throw new Error('no Chromium was found on PATH');
const folder = await mkdtemp(path.join(tmpdir(), 'wanq-bench-'));
const browser = await Browser.start(file);
try {
  const rows: Row[] = [];
  for (const [name, size] of SIZES) rows.push(await measured(name, size, browser));
  await report('report', {
    title: 'report.html of 20 prompts',
    command: 'npx tsx bench/report.ts',
    rows,
    notes: [
      'sheets: frames of one clip and their differences scaled, laid out and encoded; memory is what the process grew by beside both videos.',
      `load: from the start of navigation to the end of the load event, median of ${RUNS}, 1280 x 900, file on disk.`,
    ],
  });
} finally {
  await browser.close();
  await rm(folder, { recursive: true, force: true });
}

async function measured(name: string, size: SampleSize, browser: Browser): Promise<Row> {
  const { a, b } = sampleVideos(0, size);
  const before = process.resourceUsage().maxRSS;
  const began = performance.now();
  const sheets = await makeSheets(a, b, PAGE_SHEETS_BYTES / size.prompts);
  const sheetsMs = performance.now() - began;
  const grown = process.resourceUsage().maxRSS - before;
  const others = new Map<number, SheetPictures>([[0, sheets]]);
  const input = await sampleReport(size, async (index) => {
    // Small clips are made one by one: how well they compress differs.
    const known = others.get(size.width > SAMPLE.width ? 0 : index);
    if (known) return known;
    const videos = sampleVideos(index, size);
    return makeSheets(videos.a, videos.b, PAGE_SHEETS_BYTES / size.prompts);
  });
  const start = performance.now();
  const page = await htmlReport(input);
  const pageMs = performance.now() - start;
  const target = path.join(folder, 'report.html');
  await writeFile(target, page);
  const loads: number[] = [];
  for (let run = 0; run < RUNS; run++) loads.push(await browser.open(target, { width: 1280, height: 900 }));
  const { frames, width, height } = sheets.layout;
  return {
    'frames x height x width': name,
    shown: `${frames.length} x ${height} x ${width}`,
    'sheets of a clip, s': sheetsMs / 1000,
    'memory for them, MB': (grown * 1024) / 1e6,
    'page, s': pageMs / 1000,
    'size, MB': Buffer.byteLength(page) / 1e6,
    'load, ms': median(loads),
  };
}
