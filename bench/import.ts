/**
 * `wanq import` of checkpoints of full size: wall time from a cold page cache, peak memory of the whole process tree, and what it wrote.
 *
 *   npm run build && npx tsx bench/import.ts [--shapes 1.3B,5B,14B] [--dense 5B] [--work FOLDER] [--runs N]
 *
 * Checkpoints are made first, as sparse files that hold zeros and take no room; those of --dense are written with pseudo-random weights (the
 * 5B: 20 GB, and half as much again for the copy of one shard that stands beside it for scale).
 */
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { CHECKPOINTS, type CheckpointShape, type MadeCheckpoint, makeCheckpoint } from './lib/checkpoint.js';
import { dropCaches, measure, median } from './lib/measure.js';
import { ROOT } from './lib/paths.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: '1.3B,5B,14B' },
    dense: { type: 'string', default: '5B' },
    work: { type: 'string', default: tmpdir() },
    runs: { type: 'string', default: '3' },
  },
});
const wanq = path.join(ROOT, 'bin', 'wanq.js');
const list = (text: string): string[] => text.split(',').filter((item) => item !== '');
const rows: Row[] = [];
const notes: string[] = [];

for (const shape of list(values.shapes)) {
  if (!Object.hasOwn(CHECKPOINTS, shape)) throw new Error(`there is no shape ${shape}: ${Object.keys(CHECKPOINTS)}`);
  const dense = list(values.dense).includes(shape);
  const work = await mkdtemp(path.join(values.work, 'wanq-bench-'));
  try {
    console.error(`making ${shape}`);
    const made = await makeCheckpoint(shape as CheckpointShape, path.join(work, 'checkpoint'), dense);
    const output = path.join(work, 'imported');
    const seconds: number[] = [];
    let [peak, own, written] = [0, 0, 0];
    for (let run = 0; run < Number(values.runs); run++) {
      await rm(output, { recursive: true, force: true });
      const cold = dropCaches();
      if (!cold && run === 0) notes.push('The page cache could not be dropped here.');
      const measured = await measure(process.execPath, [wanq, 'import', made.folder, '-o', output]);
      seconds.push(measured.seconds);
      peak = Math.max(peak, measured.peakBytes);
      own = Math.max(own, measured.peakAnonBytes);
      written = await ownBytes(output);
    }
    await assertLinked(made, output);
    rows.push({
      shape,
      weights: dense ? 'pseudo-random' : 'sparse',
      'weights, GB': made.bytes / 1e9,
      shards: made.shards.length,
      'wall, s': median(seconds),
      'slowest, s': Math.max(...seconds),
      'peak, MB': peak / 1e6,
      'of it own, MB': own / 1e6,
      'written, MB': written / 1e6,
      'cp of a shard, s': dense ? await copyOfOne(made, path.join(work, 'copy')) : null,
    });
    notes.push(`${shape}: every shard in the output is the checkpoint's own file (device and inode are equal).`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
await report('import', {
  title: 'Importing diffusers checkpoints',
  command: `npx tsx bench/import.ts ${process.argv.slice(2).join(' ')}`,
  rows,
  notes: [
    ...notes,
    'wall: median, from a cold page cache to the folder on the disk, its graph loaded by onnxruntime.',
    'peak: largest sum of resident memory over the process tree; shared pages count once for each process.',
    'written: bytes on the disk of all files that are not links to the checkpoint.',
  ],
});

/** @throws Error where a weight was copied */
async function assertLinked({ transformer, shards }: MadeCheckpoint, output: string): Promise<void> {
  for (const name of shards) {
    const [theirs, ours] = await Promise.all([
      stat(path.join(transformer, name), { bigint: true }),
      stat(path.join(output, 'transformer', name), { bigint: true }),
    ]);
    if (theirs.ino !== ours.ino || theirs.dev !== ours.dev) throw new Error(`${name} was copied`);
  }
}

/** Bytes on the disk of files with one name. */
async function ownBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder, { recursive: true })) {
    const info = await stat(path.join(folder, name));
    if (info.isFile() && info.nlink === 1) bytes += 512 * info.blocks;
  }
  return bytes;
}

/** Time to copy the first shard with `cp` and fsync, from a cold page cache. */
async function copyOfOne({ transformer, shards }: MadeCheckpoint, to: string): Promise<number> {
  dropCaches();
  const from = path.join(transformer, shards[0] as string);
  return (await measure('sh', ['-c', 'cp "$0" "$1" && sync "$1"', from, to])).seconds;
}
