import { assertSpace } from '../util/files.js';
import { FOLDS } from './held.js';
import { STATISTICS_BYTES_PER_SLICE } from './statistics.js';

const FLOAT_BYTES = 4;

/** Largest and smallest value of each channel. */
const EXTREMES_BYTES = 2 * FLOAT_BYTES;

export interface CalibrationSize {
  /** Channels of each activation. */
  readonly channels: readonly number[];
  readonly buckets: number;
  readonly branches: number;
  /** Tokens of each activation kept whole. */
  readonly held: number;
}

/** The most that a calibration file takes, bytes. */
export function calibrationBytes({ channels, buckets, branches, held }: CalibrationSize): number {
  const slices = buckets * branches;
  return channels.reduce(
    (sum, width) =>
      sum +
      slices * (STATISTICS_BYTES_PER_SLICE + EXTREMES_BYTES * width) +
      FOLDS * EXTREMES_BYTES * width +
      held * FLOAT_BYTES * width,
    0,
  );
}

/**
 * Finds out before hours of work whether a calibration has room: its checkpoint and the one that takes its place lie beside each other.
 * @throws WanqError NO_SPACE
 */
export function assertCalibrationSpace(output: string, size: CalibrationSize): Promise<void> {
  return assertSpace(output, 2 * calibrationBytes(size), 'the calibration', 'keep fewer tokens with --held-tokens');
}
