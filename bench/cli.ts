/**
 * What the command line costs before any work: `wanq --help`, `--version`, and `inspect` on the real graph of the 5B, beside a Node that does nothing.
 *
 *   npm run build && npx tsx bench/cli.ts [RUNS]
 */
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { exists } from '../src/util/files.js';
import { measure, median } from './lib/measure.js';
import { ROOT } from './lib/paths.js';
import { type Row, report } from './lib/report.js';

const runs = Number(process.argv[2] ?? 15);
const wanq = path.join(ROOT, 'bin', 'wanq.js');
if (!(await exists(path.join(ROOT, 'dist', 'cli', 'main.js')))) {
  throw new Error('dist/ is missing: `npm run build` first');
}

const work = await mkdtemp(path.join(tmpdir(), 'wanq-cli-'));
try {
  const pipeline = await graphOnlyPipeline(path.join(work, '5b'));
  const commands: [name: string, args: string[]][] = [
    ['node -e 0', ['-e', '0']],
    ['wanq --version', [wanq, '--version']],
    ['wanq --help', [wanq, '--help']],
    ['wanq inspect 5B', [wanq, 'inspect', pipeline]],
  ];
  const times = await inTurn(commands, 1000);
  // Short runs need denser samples, which would slow down what is timed.
  const sampled = await inTurn(commands, 2);
  const nothing = median(times.get('node -e 0')?.map(({ seconds }) => seconds) ?? []);
  const rows = commands.map(([name]): Row => {
    const seconds = (times.get(name) ?? []).map((run) => run.seconds);
    return {
      command: name,
      'median, ms': 1000 * median(seconds),
      'slowest, ms': 1000 * Math.max(...seconds),
      'of node -e 0': median(seconds) / nothing,
      'peak, MB': Math.max(...(sampled.get(name) ?? []).map(({ peakBytes }) => peakBytes)) / 1e6,
    };
  });
  await report('cli', {
    title: 'Start-up and inspect',
    command: `npx tsx bench/cli.ts ${runs}`,
    rows,
    notes: [
      `Times are of ${runs} runs, the commands in turn; the files are in the page cache.`,
      `Peak memory is the largest sum over the process tree in ${runs} other runs, sampled every 2 ms.`,
      '`inspect` reads the graph of fixtures/full-shape/5b-fp32 (13,794 nodes; 14.5 MB without its weights).',
    ],
  });
} finally {
  await rm(work, { recursive: true, force: true });
}

/** Runs every command once to warm the page cache, then all of them in turn, so that what else the machine does meets each. */
async function inTurn(
  commands: readonly [name: string, args: string[]][],
  everyMs: number,
): Promise<Map<string, { seconds: number; peakBytes: number }[]>> {
  const measured = new Map<string, { seconds: number; peakBytes: number }[]>();
  for (let round = 0; round <= runs; round++) {
    for (const [name, args] of commands) {
      const run = await measure(process.execPath, args, { cwd: work, everyMs });
      if (round > 0) measured.set(name, [...(measured.get(name) ?? []), run]);
    }
  }
  return measured;
}

/** A pipeline folder with the 5B's transformer and none of its weights, which `inspect` never reads. */
async function graphOnlyPipeline(folder: string): Promise<string> {
  const source = path.join(ROOT, 'fixtures', 'full-shape', '5b-fp32');
  const transformer = path.join(folder, 'transformer');
  await mkdir(transformer, { recursive: true });
  await writeFile(path.join(folder, 'model_index.json'), '{"_class_name": "WanPipeline"}');
  await copyFile(path.join(source, 'config.json'), path.join(transformer, 'config.json'));
  await writeFile(path.join(transformer, 'model.onnx'), gunzipSync(await readFile(path.join(source, 'model.onnx.gz'))));
  return folder;
}
