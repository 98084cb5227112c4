import type { FileHandle } from 'node:fs/promises';
import type { DerivedForm, Tensor, TensorSource } from '../../ir/tensor.js';
import { weightScales } from '../../numerics/int8.js';
import { writeFully } from '../../util/files.js';
import type { Job } from './jobs.js';
import { openPool, type Slot, type TilePool } from './pool.js';
import {
  invalidWeight,
  matrixOf,
  readFactors,
  refuseLargeScales,
  scaleBytes,
  type TileFactors,
  type TileResult,
  type TileStep,
} from './tile.js';

/** Bytes read at a time. Large enough for the disk, small enough that a handful in flight stay far below one weight of the 5B. */
export const TILE_BYTES = 8 * 2 ** 20;

/** Transposed weights whose tiles are being put together at the same time. */
const ASSEMBLIES = 2;

/** Bytes of one source tensor were read for the first time. */
export type OnRead = (bytes: number) => void;

/**
 * Carries out jobs in order: one tile after the other is read, converted by a pool of threads and written, all three at the same time.
 * Memory is that of the slots and of two transposed weights, whatever the size of the model.
 *
 * @throws WanqError MODEL_INVALID for NaN or infinity in a weight; MODEL_UNSUPPORTED where one, or its scales, do not fit into FP16; those of reading
 */
export async function streamWeights(
  jobs: readonly Job[],
  source: TensorSource,
  target: FileHandle,
  onRead: OnRead,
): Promise<void> {
  const converted = jobs.filter(({ form }) => form !== null);
  const pool = openPool(converted.reduce((sum, job) => sum + job.source.byteLength, 0));
  const stream = new WeightStream(jobs, source, target, pool, onRead);
  try {
    for (const job of jobs) await stream.start(job);
    await stream.finish();
  } finally {
    await stream.settle();
    await pool.close();
  }
}

class WeightStream {
  readonly #source: TensorSource;
  readonly #file: FileHandle;
  readonly #pool: TilePool;
  readonly #onRead: OnRead;
  readonly #slots: Resource<Slot>;
  /** Memory for transposed codes. */
  readonly #assemblies: Resource<SharedArrayBuffer>;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(jobs: readonly Job[], source: TensorSource, file: FileHandle, pool: TilePool, onRead: OnRead) {
    this.#source = source;
    this.#file = file;
    this.#pool = pool;
    this.#onRead = onRead;
    const slotBytes = Math.max(TILE_BYTES, ...jobs.map((job) => (job.form ? rowBytes(job.source) : 0)));
    // One slot for each thread at work, one waiting for it, and two being read and written.
    this.#slots = new Resource(2 * pool.size + 2, () => ({
      input: new SharedArrayBuffer(slotBytes),
      output: new SharedArrayBuffer(slotBytes),
    }));
    const transposed = jobs.flatMap(({ form, source: { elements } }) =>
      form && 'axis' in form && form.transposed ? [elements] : [],
    );
    this.#assemblies = new Resource(ASSEMBLIES, () => new SharedArrayBuffer(Math.max(0, ...transposed)));
  }

  /** Starts the reading of a job's source; reads, conversion and writes may go on when this returns. */
  async start(job: Job): Promise<void> {
    if (job.form === null) await this.#copy(job);
    else if ('axis' in job.form) await this.#quantize(job, job.form);
    else await this.#convert(job, job.form.as);
  }

  /** Waits for all that was started. */
  async finish(): Promise<void> {
    await Promise.all(this.#running);
    this.#check();
  }

  /** Waits until nothing touches the file any more. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  async #copy({ source, target }: Job): Promise<void> {
    for (let start = 0; start < source.byteLength; start += TILE_BYTES) {
      const length = Math.min(TILE_BYTES, source.byteLength - start);
      await this.#withSlot(async (slot) => {
        await this.#read(slot, source, start, length);
        await writeFully(this.#file, new Uint8Array(slot.input, 0, length), target.offset + start);
      });
    }
  }

  async #convert(job: Job, form: 'float16' | 'float16-rounded'): Promise<void> {
    const width = job.target.tensor.byteLength / job.source.elements;
    await this.#tiles(job, async (tile) => {
      const { bytes } = await this.#run(job, { do: form }, tile);
      const converted = new Uint8Array(tile.slot.output, 0, bytes);
      await writeFully(this.#file, converted, job.target.offset + width * tile.row * tile.columns);
    });
  }

  async #quantize(job: Job, form: Extract<DerivedForm, { axis: unknown }>): Promise<void> {
    const { axis, transposed, scale } = form;
    const { rows, columns } = matrixOf(job.source);
    const factors = await readFactors(job.source, form, (tensor) => this.#source.read(tensor));
    // Where a channel is a column, its scale is known when the last row was seen: such a weight is read twice.
    const known = axis === 1 ? weightScales(await this.#columnMaxima(job, factors), scale) : undefined;
    const scales = known ?? new Float32Array(rows);
    const assembly = transposed ? await this.#assemblies.acquire() : undefined;
    const placed = await this.#tiles(
      job,
      async (tile) => {
        const result = await this.#run(
          job,
          {
            do: 'int8',
            axis,
            scale,
            factors: factorsOf(tile, factors),
            ...(known ? { scales: known } : {}),
            ...(assembly ? { transpose: { codes: assembly, rows, first: tile.row } } : {}),
          },
          tile,
        );
        if (result.scales) scales.set(result.scales, tile.row);
        if (assembly) return;
        const codes = new Uint8Array(tile.slot.output, 0, result.bytes);
        await writeFully(this.#file, codes, job.target.offset + tile.row * columns);
      },
      axis === 0,
    );
    this.#go(async () => {
      await Promise.all(placed);
      if (this.#failure) return;
      refuseLargeScales(job.source, scales, scale);
      if (assembly) {
        await writeFully(this.#file, new Uint8Array(assembly, 0, rows * columns), job.target.offset);
        this.#assemblies.release(assembly);
      }
      if (job.scales) await writeFully(this.#file, scaleBytes(scales, scale), job.scales.offset);
    });
  }

  async #columnMaxima(job: Job, factors: TileFactors): Promise<Float32Array> {
    const maxima = new Float32Array(matrixOf(job.source).columns);
    const parts = await this.#tiles(job, async (tile) => {
      const result = await this.#run(job, { do: 'maxima', factors: factorsOf(tile, factors) }, tile);
      result.maxima?.forEach((magnitude, column) => {
        maxima[column] = Math.max(maxima[column] as number, magnitude);
      });
    });
    await Promise.all(parts);
    this.#check();
    return maxima;
  }

  async #run({ source, form }: Job, step: TileStep, { slot, rows, columns }: Tile): Promise<TileResult> {
    const result = await this.#pool.run({ step, dtype: source.dtype, rows, columns }, slot);
    if (!result.valid) throw invalidWeight(source, form?.as ?? 'int8');
    return result;
  }

  /**
   * Reads whole rows at a time and lets `use` go on by itself with each tile.
   * @param first whether these bytes are read for the first time
   * @returns what is still going on
   */
  async #tiles({ source }: Job, use: (tile: Tile) => Promise<void>, first = true): Promise<Promise<void>[]> {
    const { rows, columns } = matrixOf(source);
    const bytes = source.byteLength / rows;
    const most = Math.max(1, Math.floor(TILE_BYTES / rowBytes(source)));
    const started: Promise<void>[] = [];
    for (let row = 0; row < rows; row += most) {
      const count = Math.min(most, rows - row);
      const tile = { row, rows: count, columns };
      started.push(
        (
          await this.#withSlot(async (slot) => {
            await this.#read(slot, source, row * bytes, count * bytes, first);
            await use({ ...tile, slot });
          })
        ).done,
      );
    }
    return started;
  }

  async #read(slot: Slot, source: Tensor, start: number, length: number, first = true): Promise<void> {
    await this.#source.readInto(source, start, new Uint8Array(slot.input, 0, length));
    if (first) this.#onRead(length);
  }

  /** Waits for a slot and lets `work` go on with it. Several reads are under way at a time, or the disk would wait for each to be handled. */
  async #withSlot(work: (slot: Slot) => Promise<void>): Promise<{ readonly done: Promise<void> }> {
    const slot = await this.#slots.acquire();
    this.#check();
    return {
      done: this.#go(async () => {
        await work(slot);
        this.#slots.release(slot);
      }),
    };
  }

  /** Lets work go on by itself. A failure shows at the next step of the reading, which may be waiting for what will not be released. */
  #go(work: () => Promise<void>): Promise<void> {
    const running = work()
      .catch((error) => {
        this.#failure ??= { error };
        this.#slots.open();
        this.#assemblies.open();
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
    return running;
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
  }
}

/** Rows of a weight in a slot. */
interface Tile {
  readonly slot: Slot;
  /** First row. */
  readonly row: number;
  readonly rows: number;
  readonly columns: number;
}

/** Bytes that a row takes in a slot: as it is stored, or as the float32 values it may become. */
function rowBytes(source: Tensor): number {
  const { rows, columns } = matrixOf(source);
  return Math.max(4 * columns, source.byteLength / rows);
}

/** What of a matrix's factors belongs to the rows of a tile. */
function factorsOf({ row, rows }: Tile, factors: TileFactors): TileFactors {
  return factors.rows ? { ...factors, rows: factors.rows.slice(row, row + rows) } : factors;
}

/** A fixed number of things that are made when they are first needed, taken and given back. */
class Resource<T extends object> {
  readonly #make: () => T;
  readonly #free: T[] = [];
  readonly #waiting: ((item: T) => void)[] = [];
  #left: number;
  #opened = false;

  constructor(count: number, make: () => T) {
    this.#left = count;
    this.#make = make;
  }

  async acquire(): Promise<T> {
    const free = this.#free.pop();
    if (free) return free;
    if (this.#left > 0 || this.#opened) {
      this.#left--;
      return this.#make();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  release(item: T): void {
    const next = this.#waiting.shift();
    if (next) next(item);
    else this.#free.push(item);
  }

  /** Lets everyone through, who will find that the work has failed. */
  open(): void {
    this.#opened = true;
    for (const next of this.#waiting.splice(0)) next(this.#make());
  }
}
