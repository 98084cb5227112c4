import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { Histogram } from '../numerics/histogram.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../util/safetensors.js';
import { ActivationStatistics, OutputStatistics, SliceStatistics, type Statistics } from './statistics.js';

/** Version of the file's layout. Another one is refused, never guessed at. */
export const CALIBRATION_SCHEMA = 3;

const identity = z.strictObject({
  /** `fingerprint` of the transformer that was run. */
  model: z.string(),
  /** What the text input was fed. Statistics over synthetic embeddings say nothing of real prompts. */
  inputs: z.enum(['prompts', 'embeddings', 'synthetic']),
  /** SHA-256 of the prompts and the negative prompt, in order; of the embeddings where there are no prompts. */
  prompts: z.string(),
  promptCount: z.int().positive(),
  seed: z.int(),
  steps: z.int().positive(),
  guidance: z.number(),
  scheduler: z.string(),
  /** Latent shape [channels, frames, height, width]. */
  shape: z.array(z.int().positive()).length(4),
  buckets: z.int().positive(),
  /** Rows sampled a forward for the histograms, or all. */
  tokens: z.union([z.int().positive(), z.literal('all')]),
});

const header = z.strictObject({
  identity,
  provider: z.string(),
  runtimeVersion: z.string(),
  wanqVersion: z.string(),
  /** The part of the prompts this file is meant to hold, i of n; null: all of them. */
  shard: z.tuple([z.int().positive(), z.int().positive()]).nullable(),
  /** Indices of prompts whose chains are in the statistics, ascending. */
  done: z.array(z.int().nonnegative()),
  /** Largest magnitude of what each linear makes; null where it is not finite. */
  outputs: z.array(z.strictObject({ value: z.string(), magnitude: z.number().nonnegative().nullable() })),
  activations: z.array(
    z.strictObject({
      value: z.string(),
      channels: z.int().positive(),
      slices: z.array(
        z.strictObject({
          key: z.string().regex(/^(cond|uncond)\/\d+$/),
          exponent: z.int(),
          maxMagnitude: z.number().nonnegative(),
          nonFinite: z.int().nonnegative(),
          first: z.int(),
        }),
      ),
    }),
  ),
});

/** What a calibration is of: two files with equal identities hold the same statistics. */
export type CalibrationIdentity = z.infer<typeof identity>;

/** @returns names of the fields two runs differ in; none where they hold the same statistics */
export function identityDifferences(a: CalibrationIdentity, b: CalibrationIdentity): (keyof CalibrationIdentity)[] {
  return (Object.keys(a) as (keyof CalibrationIdentity)[]).filter(
    (key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]),
  );
}

/** A calibration: statistics of every observed activation, and where they come from. */
export interface Calibration extends Statistics {
  readonly identity: CalibrationIdentity;
  readonly provider: string;
  readonly runtimeVersion: string;
  readonly wanqVersion: string;
  readonly shard: readonly [index: number, count: number] | null;
  readonly done: readonly number[];
}

/**
 * Writes a calibration as `.safetensors`. The same calibration always gives the same bytes.
 *
 * Tensors, with i the position in the header's `activations` and k the slice's key `<branch>/<bucket>`:
 * `min/i/k` and `max/i/k` F32 `[channels]`; `histogram/i/k` I64 counts, bin j covering [first + j, first + j + 1) x 2^exponent.
 */
export async function writeCalibration(file: string, calibration: Calibration): Promise<void> {
  const tensors = new Map<string, SafeTensor>();
  const described = calibration.activations.map((activation, i) => ({
    value: activation.value,
    channels: activation.channels,
    slices: activation.slices().map(({ key, slice }) => {
      const { counts, ...rest } = slice.histogram.toJSON();
      const vector = (data: Float32Array): SafeTensor => ({ dtype: 'F32', shape: [data.length], data });
      tensors.set(`min/${i}/${key}`, vector(slice.channelMin));
      tensors.set(`max/${i}/${key}`, vector(slice.channelMax));
      tensors.set(`histogram/${i}/${key}`, {
        dtype: 'I64',
        shape: [counts.length],
        data: int64Counts(counts),
      });
      return { key, ...rest };
    }),
  }));
  const { identity: of, provider, runtimeVersion, wanqVersion, shard } = calibration;
  const done = [...calibration.done].sort((a, b) => a - b);
  await writeSafetensors(file, {
    tensors,
    metadata: {
      'wanq.calibration.schema': String(CALIBRATION_SCHEMA),
      'wanq.calibration': JSON.stringify({
        identity: of,
        provider,
        runtimeVersion,
        wanqVersion,
        shard,
        done,
        outputs: calibration.outputs.map(({ value, magnitude }) => ({
          value,
          magnitude: Number.isFinite(magnitude) ? magnitude : null,
        })),
        activations: described,
      }),
    },
  });
}

/** Counts as 64-bit integers, without a BigInt for each of millions of bins. */
function int64Counts(counts: Float64Array): BigInt64Array {
  const words = new Uint32Array(2 * counts.length);
  counts.forEach((count, i) => {
    words[2 * i] = count % 2 ** 32;
    words[2 * i + 1] = Math.floor(count / 2 ** 32);
  });
  return new BigInt64Array(words.buffer);
}

/** @throws WanqError CALIBRATION_INVALID where the file is no calibration, or of another schema; SAFETENSORS_INVALID, NOT_FOUND */
export async function readCalibration(file: string): Promise<Calibration> {
  const { tensors, metadata } = await readSafetensors(file);
  const fail = (why: string): never => {
    throw new WanqError('CALIBRATION_INVALID', `${printable(file)} ${why}`, { hint: 'run `wanq calibrate` again' });
  };
  const schema = metadata['wanq.calibration.schema'];
  if (schema === undefined) return fail('is not a calibration file');
  if (schema !== String(CALIBRATION_SCHEMA)) {
    return fail(`has calibration schema ${printable(schema, 20)}; this wanq reads ${CALIBRATION_SCHEMA}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(metadata['wanq.calibration'] ?? '');
  } catch {
    return fail('has a damaged header');
  }
  const parsed = header.safeParse(json);
  if (!parsed.success) return fail('has a damaged header');

  const activations = parsed.data.activations.map(({ value, channels, slices }, i) => {
    const statistics = new ActivationStatistics(value, channels);
    for (const { key, ...histogram } of slices) {
      const min = tensors.get(`min/${i}/${key}`)?.data;
      const max = tensors.get(`max/${i}/${key}`)?.data;
      const counts = tensors.get(`histogram/${i}/${key}`)?.data;
      if (
        !(min instanceof Float32Array && min.length === channels) ||
        !(max instanceof Float32Array && max.length === channels) ||
        !(counts instanceof BigInt64Array)
      ) {
        return fail(`lacks the statistics of ${printable(value)}`);
      }
      try {
        const restored = Histogram.from({ ...histogram, counts: Float64Array.from(counts, Number) });
        const slice = new SliceStatistics(channels, restored);
        slice.widen(min, max);
        statistics.restore(key, slice);
      } catch {
        return fail(`holds an impossible histogram of ${printable(value)}`);
      }
    }
    return statistics;
  });
  const outputs = parsed.data.outputs.map(
    ({ value, magnitude }) => new OutputStatistics(value, magnitude ?? Number.POSITIVE_INFINITY),
  );
  return { ...parsed.data, outputs, activations };
}
