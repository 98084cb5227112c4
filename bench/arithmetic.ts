/**
 * The arithmetic of weight quantization alone, on one `ffn.up` weight of the 5B [14336, 3072]: wanq's tiles in one thread and in its pool, beside
 * onnxruntime's own kernels (Abs, ReduceMax, QuantizeLinear, Transpose). Same codes and scales, or it fails.
 *
 *   npm run build && npx tsx bench/arithmetic.ts [RUNS]
 */
import { availableParallelism } from 'node:os';
import * as ort from 'onnxruntime-node';
import { int, ints } from '../src/ir/attribute.js';
import { Graph, Model, Node } from '../src/ir/graph.js';
import { Tensor } from '../src/ir/tensor.js';
import { randn } from '../src/numerics/rng.js';
import { encodeModel } from '../src/onnx/codec.js';
import { openPool, type Slot } from '../src/onnx/convert/pool.js';
import { runTile, type TileTask } from '../src/onnx/convert/tile.js';
import { median } from './lib/measure.js';
import { report } from './lib/report.js';

const [ROWS, COLUMNS, TILE] = [14336, 3072, 512];
const runs = Number(process.argv[2] ?? 7);
const weight = randn(1, ROWS * COLUMNS);
const codes = new SharedArrayBuffer(ROWS * COLUMNS);
const taskAt = (first: number): TileTask => ({
  step: { do: 'int8', axis: 0, transpose: { codes, rows: ROWS, first } },
  dtype: 'float32',
  rows: TILE,
  columns: COLUMNS,
});
const slot = (): Slot => ({ input: new SharedArrayBuffer(4 * TILE * COLUMNS), output: new SharedArrayBuffer(0) });

const inOne = slot();
const pool = openPool(weight.byteLength);
const slots = Array.from({ length: 2 * pool.size }, slot);
const session = await ort.InferenceSession.create(encodeModel(kernels()), { executionProviders: ['cpu'] });
const feeds = { w: new ort.Tensor('float32', weight, [ROWS, COLUMNS]) };

/** Starts of tiles. */
const tiles = Array.from({ length: ROWS / TILE }, (_, i) => i * TILE);
const load = (into: Slot, row: number): void =>
  new Float32Array(into.input).set(weight.subarray(row * COLUMNS, (row + TILE) * COLUMNS));

const ways: Record<string, () => Promise<void>> = {
  'wanq, one thread': async () => {
    for (const row of tiles) {
      load(inOne, row);
      runTile(taskAt(row), inOne.input, inOne.output);
    }
  },
  [`wanq, pool of ${pool.size}`]: async () => {
    const queue = [...tiles];
    await Promise.all(
      slots.map(async (own) => {
        for (let row = queue.shift(); row !== undefined; row = queue.shift()) {
          load(own, row);
          await pool.run(taskAt(row), own);
        }
      }),
    );
  },
  "onnxruntime's kernels": async () => {
    await session.run(feeds);
  },
};

await refuseDifference();
const times = new Map<string, number[]>();
for (let run = 0; run <= runs; run++) {
  for (const [name, way] of Object.entries(ways)) {
    const start = performance.now();
    await way();
    if (run > 0) times.set(name, [...(times.get(name) ?? []), performance.now() - start]);
  }
}
await pool.close();
const first = median(times.get('wanq, one thread') ?? []);
await report('arithmetic', {
  title: 'Quantizing one weight, arithmetic only',
  command: `npx tsx bench/arithmetic.ts ${runs}`,
  rows: [...times].map(([name, list]) => ({
    way: name,
    'median, ms': median(list),
    'GB / s': weight.byteLength / 1e6 / median(list),
    'of one thread': median(list) / first,
  })),
  notes: [
    `${(weight.byteLength / 1e6).toFixed(0)} MB of float32; ${availableParallelism()} cores; median of ${runs} runs, the ways in turn.`,
    'onnxruntime needs the whole weight and its transposed codes in memory at once; a tile of wanq is 6 MB.',
  ],
});

/** Per-channel codes of a stored [out, in] weight, laid out as [in, out]. */
function kernels(): Model {
  const node = (opType: string, inputs: string[], output: string, attributes: Node['attributes'] = []): Node =>
    new Node({ opType, inputs, outputs: [output], name: output, attributes });
  return new Model({
    irVersion: 10,
    opsets: [{ domain: '', version: 20 }],
    graph: new Graph({
      name: 'kernels',
      nodes: [
        node('Abs', ['w'], 'magnitudes'),
        node('ReduceMax', ['magnitudes', 'axis'], 'maxima', [int('keepdims', 0)]),
        node('Div', ['maxima', 'levels'], 'scales'),
        node('QuantizeLinear', ['w', 'scales', 'zero'], 'codes', [int('axis', 0)]),
        node('Transpose', ['codes'], 'transposed', [ints('perm', [1, 0])]),
      ],
      initializers: [
        Tensor.int64('axis', [1], [1]),
        Tensor.float32('levels', [], [127]),
        Tensor.fromBytes('zero', 'int8', [ROWS], new Uint8Array(ROWS)),
      ],
      inputs: [{ name: 'w', dtype: 'float32', dims: [ROWS, COLUMNS] }],
      outputs: [
        { name: 'transposed', dtype: 'int8', dims: [COLUMNS, ROWS] },
        { name: 'scales', dtype: 'float32', dims: [ROWS] },
      ],
    }),
  });
}

/** The first tile, both ways. onnxruntime divides in single precision, so a value halfway between two codes may fall on the other side. */
async function refuseDifference(): Promise<void> {
  const { transposed, scales } = (await session.run(feeds)) as { transposed: ort.Tensor; scales: ort.Tensor };
  load(inOne, 0);
  const result = runTile(taskAt(0), inOne.input, inOne.output);
  const ours = new Int8Array(codes);
  const theirs = transposed.data as Int8Array;
  for (let column = 0; column < COLUMNS; column++) {
    for (let row = 0; row < TILE; row++) {
      const difference = (ours[column * ROWS + row] as number) - (theirs[column * ROWS + row] as number);
      if (Math.abs(difference) > 1) throw new Error(`code [${row}, ${column}] differs by ${difference}`);
    }
  }
  for (let row = 0; row < TILE; row++) {
    if (result.scales?.[row] !== (scales.data as Float32Array)[row]) throw new Error(`scale ${row} differs`);
  }
}
