/** Values of one activation as the report draws them. */
export interface TensorHistogram {
  /** Name of the value in the graph. */
  readonly tensor: string;
  /** That read it and are quantized alike, as plan files call them. */
  readonly linears: readonly string[];
  /** Range that is quantized; null where none is static, or the histogram is of other values than those that are quantized. */
  readonly low: number | null;
  readonly high: number | null;
  /** Range that was seen. */
  readonly min: number;
  readonly max: number;
  /** At most 128, of bins of one width. */
  readonly counts: readonly number[];
  /** Where the first bin begins and the last one ends. */
  readonly from: number;
  readonly to: number;
  /** Share of the counted values outside the range that is quantized, in [0, 1]. */
  readonly clipped: number | null;
  /** What the values are, for people. */
  readonly note: string;
}
