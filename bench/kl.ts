/**
 * Time of one tensor's KL threshold: wanq's search, the same definition read bin by bin, and onnxruntime's entropy calibration.
 *
 *   npx tsx bench/kl.ts [RUNS]
 *
 * The peer needs Python with onnx, onnxruntime and numpy (PYTHON=path/to/python); without it its columns stay empty.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Histogram, magnitudeBins, signedBins } from '../src/numerics/histogram.js';
import { MersenneTwister, randn } from '../src/numerics/rng.js';
import { chooseRange } from '../src/numerics/thresholds/index.js';
import { klThreshold } from '../src/numerics/thresholds/kl.js';
import { median } from './lib/measure.js';
import { ROOT } from './lib/paths.js';
import { plainKlThreshold } from './lib/plain-kl.js';
import { type Row, report } from './lib/report.js';

const SAMPLES = 1_000_000;
const PLAIN_RUNS = 3;
const PEER_RUNS = 3;
const python = process.env.PYTHON ?? 'python3';

const TENSORS: Readonly<Record<string, () => Float32Array>> = {
  normal: () => randn(1, SAMPLES),
  Laplace: () => {
    const generator = new MersenneTwister(2);
    return Float32Array.from({ length: SAMPLES }, () => {
      // Never 0 or 1: the middle of one of the generator's 2^24 steps.
      const p = generator.uniform() + 2 ** -25 - 0.5;
      return -Math.sign(p) * Math.log(1 - 2 * Math.abs(p));
    });
  },
  GELU: () => randn(3, SAMPLES).map((x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))),
  'normal, one 50': () => withOutlier(randn(4, SAMPLES), 50),
  // The most candidates: nearly every window keeps all of the body.
  'normal, one 250': () => withOutlier(randn(5, SAMPLES), 250),
  // Heavy tails: many candidates, and few of them end where there are no samples.
  'Student t, 3': () => {
    const [b, c, d] = [7, 8, 9].map((seed) => randn(seed, SAMPLES)) as [Float32Array, Float32Array, Float32Array];
    const square = (values: Float32Array, i: number): number => (values[i] as number) ** 2;
    return randn(6, SAMPLES).map((x, i) => x / Math.sqrt((square(b, i) + square(c, i) + square(d, i)) / 3));
  },
};

const TYPES = ['int8', 'uint8'] as const;
const LEVELS = { int8: 128, uint8: 256 };

if (process.argv[2] === '--cold') {
  const [tensor, type] = process.argv.slice(3) as [string, 'int8' | 'uint8'];
  const run = searchOf((TENSORS[tensor] as () => Float32Array)(), type);
  console.log(time(run));
} else {
  await compare(Number(process.argv[2] ?? 21));
}

async function compare(runs: number): Promise<void> {
  const work = await mkdtemp(path.join(tmpdir(), 'wanq-kl-'));
  const rows: Row[] = [];
  let version: string | undefined;
  try {
    for (const [name, make] of Object.entries(TENSORS)) {
      const samples = make();
      const peer = await timePeer(samples, work);
      version = peer?.version;
      for (const type of TYPES) {
        const histogram = histogramOf(samples).toJSON();
        const bins = type === 'int8' ? magnitudeBins(histogram) : signedBins(histogram);
        const choice = klThreshold(bins, LEVELS[type]);
        const plain = plainKlThreshold(bins, LEVELS[type]);
        if (choice.k !== plain.k) throw new Error(`${name}, ${type}: ${choice.k} bins here, ${plain.k} bin by bin`);
        const run = searchOf(samples, type);
        for (let i = 0; i < 5; i++) run();
        const ours = median(Array.from({ length: runs }, () => time(run)));
        const theirs = median(
          Array.from({ length: PLAIN_RUNS }, () => time(() => plainKlThreshold(bins, LEVELS[type]))),
        );
        const peerMs = peer && 1000 * median(peer.seconds);
        rows.push({
          samples: name,
          type,
          bins: bins.counts.length,
          candidates: plain.compared,
          'wanq, ms': ours,
          'first call, ms': cold(name, type),
          'bin by bin, ms': theirs,
          'bin by bin / wanq': theirs / ours,
          'onnxruntime, ms': peerMs ?? null,
          'onnxruntime / wanq': peerMs === undefined ? null : peerMs / ours,
          threshold: choice.k * bins.width,
          'onnxruntime’s': peer?.high ?? null,
        });
      }
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  await report('kl', {
    title: 'KL threshold of one tensor',
    command: `npx tsx bench/kl.ts ${runs}`,
    rows,
    notes: [
      `${SAMPLES} samples a tensor; the time of building the histogram is not in it. Medians of ${runs} runs after 5 others, the first call in a fresh process; bin by bin and onnxruntime: medians of ${PLAIN_RUNS}.`,
      'Candidates are the windows that keep 99.999 % of the samples; the reading bin by bin picks the same threshold in every row, or this fails.',
      version === undefined
        ? 'onnxruntime was not there.'
        : `onnxruntime ${version}: get_entropy_threshold with 2048 bins, 128 levels (both over the whole range, so 961 candidates), the same for both types.`,
    ],
  });
}

function histogramOf(samples: Float32Array): Histogram {
  const histogram = new Histogram();
  histogram.add(samples);
  return histogram;
}

/** What planning does for one activation. */
function searchOf(samples: Float32Array, type: 'int8' | 'uint8'): () => void {
  const histogram = histogramOf(samples);
  const range = {
    min: samples.reduce((a, b) => Math.min(a, b)),
    max: samples.reduce((a, b) => Math.max(a, b)),
  };
  return () => chooseRange(histogram.toJSON(), range, type, { method: 'kl', percentile: 99.999 });
}

function withOutlier(samples: Float32Array, value: number): Float32Array {
  samples[0] = value;
  return samples;
}

/** @returns ms */
function time(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/** The first call, in a process that has compiled nothing yet, ms. */
function cold(tensor: string, type: string): number {
  const args = [...process.execArgv, fileURLToPath(import.meta.url), '--cold', tensor, type];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return Number(stdout);
}

interface Peer {
  readonly version: string;
  readonly seconds: readonly number[];
  readonly high: number;
}

async function timePeer(samples: Float32Array, work: string): Promise<Peer | undefined> {
  const script = path.join(ROOT, 'bench', 'peer_entropy.py');
  if (spawnSync(python, ['-c', 'import onnx, onnxruntime, numpy'], { stdio: 'ignore' }).status !== 0) {
    console.error(`skipped the peer: ${python} lacks onnx, onnxruntime or numpy`);
    return undefined;
  }
  const file = path.join(work, 'samples.f32');
  await writeFile(file, samples);
  const { stdout, stderr, status } = spawnSync(python, [script, file, String(PEER_RUNS)], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Peer;
}
