import { HISTOGRAM_BINS, Histogram } from '../numerics/histogram.js';
import type { Branch } from '../pipeline/denoise.js';

/** Memory of a slice's histogram: 8,192 bins of 8 bytes. */
export const STATISTICS_BYTES_PER_SLICE = 8 * HISTOGRAM_BINS;

/** Statistics of one activation in one guidance branch and one timestep bucket. */
export class SliceStatistics {
  /** Exact per-channel extremes over every token, `[channels]`. */
  readonly channelMin: Float32Array;
  readonly channelMax: Float32Array;
  readonly histogram: Histogram;

  constructor(channels: number, histogram = new Histogram()) {
    this.channelMin = new Float32Array(channels).fill(Number.POSITIVE_INFINITY);
    this.channelMax = new Float32Array(channels).fill(Number.NEGATIVE_INFINITY);
    this.histogram = histogram;
  }

  add(min: Float32Array, max: Float32Array, sample: Float32Array): void {
    this.widen(min, max);
    this.histogram.add(sample);
  }

  merge(other: SliceStatistics): void {
    this.widen(other.channelMin, other.channelMax);
    this.histogram.merge(other.histogram);
  }

  /** Math.min and Math.max carry NaN on, so that a broken activation stays visible. */
  widen(min: Float32Array, max: Float32Array): void {
    for (let c = 0; c < this.channelMin.length; c++) {
      this.channelMin[c] = Math.min(this.channelMin[c] as number, min[c] as number);
      this.channelMax[c] = Math.max(this.channelMax[c] as number, max[c] as number);
    }
  }

  /** Whether no NaN or infinity was seen. */
  get finite(): boolean {
    const { min, max } = this.range;
    return Number.isFinite(min) && Number.isFinite(max) && this.histogram.nonFinite === 0;
  }

  get range(): { min: number; max: number } {
    return {
      min: this.channelMin.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
      max: this.channelMax.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
    };
  }
}

/** Statistics of one activation, kept apart by guidance branch and timestep bucket. */
export class ActivationStatistics {
  /** Value name in the graph. */
  readonly value: string;
  readonly channels: number;
  readonly #slices = new Map<string, SliceStatistics>();

  constructor(value: string, channels: number) {
    this.value = value;
    this.channels = channels;
  }

  slice(branch: Branch, bucket: number): SliceStatistics {
    return this.#at(`${branch}/${bucket}`);
  }

  #at(key: string): SliceStatistics {
    let slice = this.#slices.get(key);
    if (!slice) {
      slice = new SliceStatistics(this.channels);
      this.#slices.set(key, slice);
    }
    return slice;
  }

  /** Slices in a fixed order, so that files come out the same whatever order they were filled in. */
  slices(): { key: string; slice: SliceStatistics }[] {
    return [...this.#slices].map(([key, slice]) => ({ key, slice })).sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Adds all that another run over the same activation saw. */
  merge(other: ActivationStatistics): void {
    for (const { key, slice } of other.slices()) this.#at(key).merge(slice);
  }

  restore(key: string, slice: SliceStatistics): void {
    this.#slices.set(key, slice);
  }

  /** All branches and buckets as one. */
  total(): SliceStatistics {
    const total = new SliceStatistics(this.channels);
    for (const { slice } of this.slices()) total.merge(slice);
    return total;
  }
}

/** The largest magnitude of what a linear makes. */
export class OutputStatistics {
  /** Value name in the graph. */
  readonly value: string;
  magnitude: number;

  constructor(value: string, magnitude = 0) {
    this.value = value;
    this.magnitude = magnitude;
  }

  add(magnitude: number): void {
    this.magnitude = Math.max(this.magnitude, magnitude);
  }
}

/** All that a calibration gathers. */
export interface Statistics {
  readonly activations: readonly ActivationStatistics[];
  readonly outputs: readonly OutputStatistics[];
}

/** Timestep buckets cut sigma's range [0, 1] evenly; sigma is the timestep over the number of training timesteps. */
export function bucketOf(sigma: number, buckets: number): number {
  return Math.min(buckets - 1, Math.max(0, Math.floor(sigma * buckets)));
}
