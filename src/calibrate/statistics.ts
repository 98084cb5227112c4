import { HISTOGRAM_BINS, Histogram } from '../numerics/histogram.js';
import type { Branch } from '../pipeline/denoise.js';
import { FOLDS, type HeldPlace } from './held.js';

/** Memory of a slice's histogram: 8,192 bins of 8 bytes. */
export const STATISTICS_BYTES_PER_SLICE = 8 * HISTOGRAM_BINS;

/** Exact per-channel extremes over every token. */
export class ChannelExtremes {
  /** `[channels]`. */
  readonly channelMin: Float32Array;
  readonly channelMax: Float32Array;

  constructor(channels: number) {
    this.channelMin = new Float32Array(channels).fill(Number.POSITIVE_INFINITY);
    this.channelMax = new Float32Array(channels).fill(Number.NEGATIVE_INFINITY);
  }

  /** Math.min and Math.max carry NaN on, so that a broken activation stays visible. */
  widen(min: Float32Array, max: Float32Array): void {
    for (let c = 0; c < this.channelMin.length; c++) {
      this.channelMin[c] = Math.min(this.channelMin[c] as number, min[c] as number);
      this.channelMax[c] = Math.max(this.channelMax[c] as number, max[c] as number);
    }
  }

  /** Whether anything was seen. */
  get seen(): boolean {
    return this.channelMin[0] !== Number.POSITIVE_INFINITY;
  }

  get range(): { min: number; max: number } {
    return {
      min: this.channelMin.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
      max: this.channelMax.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
    };
  }
}

/** Statistics of one activation in one guidance branch and one timestep bucket. */
export class SliceStatistics extends ChannelExtremes {
  readonly histogram: Histogram;

  constructor(channels: number, histogram = new Histogram()) {
    super(channels);
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

  /** Whether no NaN or infinity was seen. */
  get finite(): boolean {
    const { min, max } = this.range;
    return Number.isFinite(min) && Number.isFinite(max) && this.histogram.nonFinite === 0;
  }

  /** What of it was NaN or infinite. */
  get nonFinite(): NonFinite {
    const { total, nonFinite } = this.histogram;
    // Not their difference, which two finite ends may not have.
    const isBroken = (min: number, k: number): boolean => !Number.isFinite(min) || !Number.isFinite(this.channelMax[k]);
    const channels = this.seen
      ? this.channelMin.reduce((count, min, k) => (isBroken(min, k) ? count + 1 : count), 0)
      : 0;
    return { channels, ofChannels: this.channelMin.length, samples: total + nonFinite, nonFinite };
  }
}

/** How much of an activation was NaN or infinite. */
export interface NonFinite {
  /** Channels that held such a value in any token, and channels in all. */
  readonly channels: number;
  readonly ofChannels: number;
  /** Values that were sampled, and those among them that were NaN or infinite. */
  readonly samples: number;
  readonly nonFinite: number;
}

export function nonFiniteText({ channels, ofChannels, samples, nonFinite }: NonFinite): string {
  const share = percent(nonFinite / Math.max(1, samples));
  return `in ${channels} of ${ofChannels} channels, ${nonFinite} of ${samples} sampled values (${share})`;
}

/** Never 0 % of what there was some of. */
function percent(share: number): string {
  return share > 0 && share < 1e-4 ? 'below 0.01 %' : `${(100 * share).toFixed(2)} %`;
}

/** One forward in which an activation was seen. */
export interface Forward {
  readonly prompt: number;
  readonly branch: Branch;
  readonly bucket: number;
  /** Tokens to keep of it. */
  readonly places: readonly HeldPlace[];
  /** Tokens that all forwards of the prompt keep. */
  readonly heldOfPrompt: number;
}

/**
 * Statistics of one activation, kept apart by guidance branch and timestep bucket; its extremes kept apart by fold of prompts too; and tokens
 * of each prompt as they are.
 */
export class ActivationStatistics {
  /** Value name in the graph. */
  readonly value: string;
  readonly channels: number;
  /** One for each fold; of a fold without prompts, nothing was seen. */
  readonly folds: readonly ChannelExtremes[];
  /** Prompt to `[tokens, channels]`. Not read from a file unless asked for. */
  readonly held = new Map<number, Float32Array>();
  readonly #slices = new Map<string, SliceStatistics>();

  constructor(value: string, channels: number) {
    this.value = value;
    this.channels = channels;
    this.folds = Array.from({ length: FOLDS }, () => new ChannelExtremes(channels));
  }

  /** Adds what one forward showed. @param min, max `[channels]` over all tokens; @param sample `[rows, channels]` */
  add(forward: Forward, min: Float32Array, max: Float32Array, sample: Float32Array): void {
    const { prompt, branch, bucket, places, heldOfPrompt } = forward;
    this.slice(branch, bucket).add(min, max, sample);
    this.folds[prompt % FOLDS]?.widen(min, max);
    if (places.length === 0) return;
    const { channels } = this;
    const rows = sample.length / channels;
    const held = this.held.get(prompt) ?? new Float32Array(heldOfPrompt * channels);
    for (const { position, at } of places) {
      const row = Math.floor(at * rows);
      held.set(sample.subarray(row * channels, (row + 1) * channels), position * channels);
    }
    this.held.set(prompt, held);
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
    other.folds.forEach(({ channelMin, channelMax }, fold) => {
      this.folds[fold]?.widen(channelMin, channelMax);
    });
    for (const [prompt, tokens] of other.held) this.held.set(prompt, tokens);
  }

  restore(key: string, slice: SliceStatistics): void {
    this.#slices.set(key, slice);
  }

  /** Whether no NaN or infinity was seen. */
  get finite(): boolean {
    return [...this.#slices.values()].every((slice) => slice.finite);
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
