import type { FileHandle } from 'node:fs/promises';
import { asBytes, type DerivedForm, type Tensor, type TensorSource } from '../../ir/tensor.js';
import { weightScales } from '../../numerics/int8.js';
import { writeFully } from '../../util/files.js';
import type { Job } from './jobs.js';
import { openPool, type Slot, type TilePool } from './pool.js';
import { invalidWeight, matrixOf, type TileResult, type TileStep } from './tile.js';

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
 * @throws WanqError MODEL_INVALID for NaN or infinity in a weight; MODEL_UNSUPPORTED where one does not fit into FP16; those of reading
 */
export async function streamWeights(
  jobs: readonly Job[],
  source: TensorSource,
  target: FileHandle,
  onRead: OnRead,
): Promise<void> {
  const converted = jobs.filter(({ form }) => form !== null);
  const pool = openPool(converted.reduce((sum, job) => sum + job.source.byteLength, 0));
  const slotBytes = Math.max(TILE_BYTES, ...converted.map((job) => 4 * matrixOf(job.source).columns));
  const stream = new WeightStream(source, target, pool, slotBytes, onRead);
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
  readonly #assemblies = new Resource<object>(Array.from({ length: ASSEMBLIES }, () => ({})));
  readonly #slotBytes: number;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(source: TensorSource, file: FileHandle, pool: TilePool, slotBytes: number, onRead: OnRead) {
    this.#source = source;
    this.#file = file;
    this.#pool = pool;
    this.#onRead = onRead;
    this.#slotBytes = slotBytes;
    // One slot for each thread at work, one waiting for it, and two being read and written.
    const slots = Array.from({ length: 2 * pool.size + 2 }, () => ({ input: empty, output: empty }));
    this.#slots = new Resource<Slot>(slots);
  }

  /** Reads a job's source; conversion and writing may go on when this returns. */
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
      const slot = await this.#read(source, start, length);
      this.#go(async () => {
        await writeFully(this.#file, new Uint8Array(slot.input, 0, length), target.offset + start);
        this.#slots.release(slot);
      });
    }
  }

  async #convert(job: Job, form: 'float16' | 'float16-rounded'): Promise<void> {
    const width = job.target.tensor.byteLength / job.source.elements;
    for await (const tile of this.#tiles(job.source)) {
      this.#go(async () => {
        const result = await this.#run(job, { do: form }, tile);
        const bytes = new Uint8Array(tile.slot.output, 0, result.bytes);
        await writeFully(this.#file, bytes, job.target.offset + width * tile.row * tile.columns);
        this.#slots.release(tile.slot);
      });
    }
  }

  async #quantize(job: Job, { axis, transposed }: Extract<DerivedForm, { axis: unknown }>): Promise<void> {
    const { rows, columns } = matrixOf(job.source);
    // Where a channel is a column, its scale is known when the last row was seen: such a weight is read twice.
    const known = axis === 1 ? weightScales(await this.#columnMaxima(job)) : undefined;
    const scales = known ?? new Float32Array(rows);
    const assembly = transposed ? await this.#assemblies.acquire() : undefined;
    const codes = assembly && new Uint8Array(job.source.elements);
    const placed: Promise<void>[] = [];
    for await (const tile of this.#tiles(job.source, axis === 0)) {
      const place = async (): Promise<void> => {
        const step: TileStep = { do: 'int8', axis, transposed, ...(known ? { scales: known } : {}) };
        const result = await this.#run(job, step, tile);
        if (result.scales) scales.set(result.scales, tile.row);
        const bytes = new Uint8Array(tile.slot.output, 0, result.bytes);
        if (codes) {
          for (let column = 0; column < columns; column++) {
            codes.set(bytes.subarray(column * tile.rows, (column + 1) * tile.rows), column * rows + tile.row);
          }
        } else {
          await writeFully(this.#file, bytes, job.target.offset + tile.row * columns);
        }
        this.#slots.release(tile.slot);
      };
      placed.push(this.#go(place));
    }
    this.#go(async () => {
      await Promise.all(placed);
      if (this.#failure) return;
      if (codes) await writeFully(this.#file, codes, job.target.offset);
      if (job.scales) await writeFully(this.#file, asBytes(scales), job.scales.offset);
      if (assembly) this.#assemblies.release(assembly);
    });
  }

  async #columnMaxima(job: Job): Promise<Float32Array> {
    const maxima = new Float32Array(matrixOf(job.source).columns);
    const parts: Promise<void>[] = [];
    for await (const tile of this.#tiles(job.source)) {
      const part = this.#go(async () => {
        const result = await this.#run(job, { do: 'maxima' }, tile);
        result.maxima?.forEach((magnitude, column) => {
          maxima[column] = Math.max(maxima[column] as number, magnitude);
        });
        this.#slots.release(tile.slot);
      });
      parts.push(part);
    }
    await Promise.all(parts);
    this.#check();
    return maxima;
  }

  async #run({ source, form }: Job, step: TileStep, { slot, rows, columns }: Tile): Promise<TileResult> {
    // The output buffer is made when the first task needs it, so that plain copies do without.
    if (slot.output.byteLength < this.#slotBytes) slot.output = new ArrayBuffer(this.#slotBytes);
    const result = await this.#pool.run({ step, dtype: source.dtype, rows, columns }, slot);
    if (!result.valid) throw invalidWeight(source, form?.as ?? 'int8');
    return result;
  }

  /** Reads whole rows at a time. @param first whether these bytes are read for the first time */
  async *#tiles(source: Tensor, first = true): AsyncGenerator<Tile> {
    const { rows, columns } = matrixOf(source);
    const rowBytes = source.byteLength / rows;
    const most = Math.max(1, Math.floor(TILE_BYTES / (4 * columns)));
    for (let row = 0; row < rows; row += most) {
      const count = Math.min(most, rows - row);
      const slot = await this.#read(source, row * rowBytes, count * rowBytes, first);
      yield { slot, row, rows: count, columns };
    }
  }

  async #read(source: Tensor, start: number, length: number, first = true): Promise<Slot> {
    const slot = await this.#slots.acquire();
    this.#check();
    if (slot.input.byteLength < this.#slotBytes) slot.input = new ArrayBuffer(this.#slotBytes);
    await this.#source.readInto(source, start, new Uint8Array(slot.input, 0, length));
    if (first) this.#onRead(length);
    return slot;
  }

  /** Lets work go on by itself. A failure shows at the next read, which a released resource may be waiting for. */
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

const empty = new ArrayBuffer(0);

/** A fixed number of things that are taken and given back. */
class Resource<T extends object> {
  readonly #free: T[];
  readonly #waiting: ((item: T) => void)[] = [];
  readonly #any: T;
  #opened = false;

  constructor(items: readonly T[]) {
    this.#free = [...items];
    this.#any = items[0] as T;
  }

  async acquire(): Promise<T> {
    if (this.#opened) return this.#any;
    return this.#free.pop() ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  release(item: T): void {
    const next = this.#waiting.shift();
    if (next) next(item);
    else this.#free.push(item);
  }

  /** Lets everyone through, who will find that the work has failed. */
  open(): void {
    this.#opened = true;
    for (const next of this.#waiting.splice(0)) next(this.#any);
  }
}
