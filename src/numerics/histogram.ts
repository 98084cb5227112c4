/** log2 of the most bins on either side of zero. At least half of them, 2,048, cover [0, max|x|]. */
const BITS = 12;
const HALF = 2 ** BITS;

/** Bins on both sides of zero together. */
export const HISTOGRAM_BINS = 2 * HALF;

/** Exponent of an empty histogram, or one of zeros only: below every float32 value. */
const MIN_EXPONENT = -149 - BITS;

/**
 * A signed histogram whose contents depend on the multiset of samples alone.
 *
 * Bin i counts samples in [i * 2^e, (i + 1) * 2^e). The exponent e is a function of the largest magnitude seen: it puts that
 * magnitude between bin 2^(BITS) / 2 and 2^BITS. When a larger sample comes, e grows and neighbouring bins merge pairwise, which is exact
 * because floor(floor(x) / 2) = floor(x / 2); scaling by a power of two is exact in binary floating point too. So any order,
 * split into batches or merge of histograms gives the same bits.
 *
 * Zero always falls into bin 0. NaN and infinities are counted apart.
 */
export class Histogram {
  #exponent = MIN_EXPONENT;
  /** Counts of bins -2^BITS .. 2^BITS - 1. Float64 counts are exact up to 2^53. */
  #counts = new Float64Array(HISTOGRAM_BINS);
  #maxMagnitude = 0;
  #nonFinite = 0;

  /** Bin width is 2^exponent. */
  get exponent(): number {
    return this.#exponent;
  }

  get nonFinite(): number {
    return this.#nonFinite;
  }

  get total(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  /** Adds samples. */
  add(samples: ArrayLike<number>): void {
    let largest = this.#maxMagnitude;
    for (let i = 0; i < samples.length; i++) {
      const magnitude = Math.abs(samples[i] as number);
      if (magnitude > largest && magnitude !== Number.POSITIVE_INFINITY) largest = magnitude;
    }
    this.#widen(largest);
    const inverse = 2 ** -this.#exponent;
    const counts = this.#counts;
    const half = HALF;
    for (let i = 0; i < samples.length; i++) {
      const sample = samples[i] as number;
      if (Number.isFinite(sample)) {
        const bin = Math.floor(sample * inverse) + half;
        counts[bin] = (counts[bin] as number) + 1;
      } else {
        this.#nonFinite++;
      }
    }
  }

  /** Adds all samples of another histogram. */
  merge(other: Histogram): void {
    this.#nonFinite += other.#nonFinite;
    const aligned = other.#maxMagnitude < this.#maxMagnitude ? other.clone() : other;
    this.#widen(other.#maxMagnitude);
    aligned.#coarsen(this.#exponent - aligned.#exponent);
    for (let i = 0; i < this.#counts.length; i++) {
      this.#counts[i] = (this.#counts[i] as number) + (aligned.#counts[i] as number);
    }
  }

  clone(): Histogram {
    const copy = new Histogram();
    copy.#exponent = this.#exponent;
    copy.#counts = this.#counts.slice();
    copy.#maxMagnitude = this.#maxMagnitude;
    copy.#nonFinite = this.#nonFinite;
    return copy;
  }

  #widen(magnitude: number): void {
    if (magnitude <= this.#maxMagnitude) return;
    this.#maxMagnitude = magnitude;
    this.#coarsen(exponentFor(magnitude) - this.#exponent);
  }

  /** Merges bins in groups of 2^steps. */
  #coarsen(steps: number): void {
    if (steps === 0) return;
    this.#exponent += steps;
    const half = HALF;
    const old = this.#counts;
    this.#counts = new Float64Array(old.length);
    for (let i = 0; i < old.length; i++) {
      const count = old[i] as number;
      if (count === 0) continue;
      const bin = Math.floor((i - half) / 2 ** Math.min(steps, 60)) + half;
      this.#counts[bin] = (this.#counts[bin] as number) + count;
    }
  }

  /** Share of the samples whose bin lies outside [low, high], in [0, 1]. */
  shareOutside(low: number, high: number): number {
    const inverse = 2 ** -this.#exponent;
    const [from, to] = [Math.floor(low * inverse) + HALF, Math.floor(high * inverse) + HALF];
    let outside = 0;
    let total = 0;
    this.#counts.forEach((count, bin) => {
      total += count;
      if (bin < from || bin > to) outside += count;
    });
    return total === 0 ? 0 : outside / total;
  }

  /** Plain data, trimmed to the bins in use. `first` is the index i of counts[0]. */
  toJSON(): HistogramData {
    let from = 0;
    let to = this.#counts.length;
    while (from < to && this.#counts[from] === 0) from++;
    while (to > from && this.#counts[to - 1] === 0) to--;
    return {
      exponent: this.#exponent,
      maxMagnitude: this.#maxMagnitude,
      nonFinite: this.#nonFinite,
      first: from === to ? 0 : from - HALF,
      counts: this.#counts.slice(from, to),
    };
  }

  /** @throws RangeError where the data cannot have come from {@link toJSON} */
  static from(data: HistogramData): Histogram {
    const histogram = new Histogram();
    const { exponent, maxMagnitude, nonFinite, first, counts } = data;
    const last = first + counts.length - 1;
    // The largest magnitude lies in the outermost bin on one side, and nothing lies beyond it.
    const outer = Math.floor(maxMagnitude * 2 ** -exponent);
    const inner = Math.floor(-maxMagnitude * 2 ** -exponent);
    const fits =
      counts.length === 0 ? maxMagnitude === 0 : first >= inner && last <= outer && (first === inner || last === outer);
    if (
      !Number.isInteger(first) ||
      !Number.isFinite(maxMagnitude) ||
      exponent !== exponentFor(maxMagnitude) ||
      !fits ||
      !isCount(nonFinite) ||
      !counts.every(isCount)
    ) {
      throw new RangeError('not a histogram');
    }
    histogram.#exponent = exponent;
    histogram.#maxMagnitude = maxMagnitude;
    histogram.#nonFinite = nonFinite;
    histogram.#counts.set(counts, first + HALF);
    return histogram;
  }
}

export interface HistogramData {
  readonly exponent: number;
  readonly maxMagnitude: number;
  readonly nonFinite: number;
  readonly first: number;
  readonly counts: Float64Array;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/** The e with 2^(BITS-1) <= magnitude / 2^e < 2^BITS. */
function exponentFor(magnitude: number): number {
  if (magnitude === 0) return MIN_EXPONENT;
  const exponent = Math.floor(Math.log2(magnitude)) + 1;
  // log2 of a value just below a power of two may round up to it.
  const exact = 2 ** (exponent - 1) > magnitude ? exponent - 1 : 2 ** exponent <= magnitude ? exponent + 1 : exponent;
  return Math.max(exact - BITS, MIN_EXPONENT);
}

/** Equal-width bins around zero, the form the threshold searches take. */
export interface CenteredBins {
  /** counts[center + i] counts samples in [i, i + 1) * width. */
  readonly counts: Float64Array;
  readonly center: number;
  readonly width: number;
}

/** The histogram as it is: for affine targets, whose range need not be symmetric. */
export function signedBins(data: HistogramData): CenteredBins {
  const from = Math.min(data.first, 0);
  const to = Math.max(data.first + data.counts.length, 1);
  const counts = new Float64Array(to - from);
  counts.set(data.counts, data.first - from);
  return { counts, center: -from, width: 2 ** data.exponent };
}

/** The histogram of |x|, for symmetric targets: bin i holds bins i and -i-1. */
export function magnitudeBins(data: HistogramData): CenteredBins {
  const { first } = data;
  const counts = new Float64Array(Math.max(first + data.counts.length, -first, 1));
  data.counts.forEach((count, index) => {
    const bin = first + index;
    const magnitude = bin >= 0 ? bin : -bin - 1;
    counts[magnitude] = (counts[magnitude] as number) + count;
  });
  return { counts, center: 0, width: 2 ** data.exponent };
}
